//! Lists in a broker's answers: rows are handed over one by one, so that a list of any length costs the memory of one row.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::answers::{Binding, Exchange, Policy, QueueDefinition};

/// A JSON array, of which `take` gets the first rows. Its value is the number of rows, which ends one above the most that `take` gets: the others are
/// skipped.
pub(super) struct Rows<T, F> {
    max: usize,
    take: F,
    row: PhantomData<fn() -> T>,
}

impl<T, F: FnMut(T)> Rows<T, F> {
    /// `take` gets every row.
    pub(super) fn all(take: F) -> Self {
        Self::at_most(usize::MAX, take)
    }

    /// `take` gets at most so many rows.
    pub(super) fn at_most(max: usize, take: F) -> Self {
        Self {
            max,
            take,
            row: PhantomData,
        }
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T)> DeserializeSeed<'de> for Rows<T, F> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for Rows<T, F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while count < self.max {
            let Some(row) = rows.next_element()? else {
                return Ok(count);
            };
            (self.take)(row);
            count += 1;
        }
        while rows.next_element::<IgnoredAny>()?.is_some() {
            count = self.max.saturating_add(1);
        }
        Ok(count)
    }
}

/// One page of a list, with the rows in its field `items`. Its value is that of the rows.
pub(super) struct Page<T, F>(pub(super) Rows<T, F>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum PageField {
    Items,
    #[serde(other)]
    Other,
}

impl<'de, T: DeserializeOwned, F: FnMut(T)> DeserializeSeed<'de> for Page<T, F> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for Page<T, F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<usize, A::Error> {
        let (mut rows, mut count) = (Some(self.0), None);
        while let Some(field) = fields.next_key()? {
            match field {
                PageField::Items => {
                    let rows = rows.take();
                    let rows = rows.ok_or_else(|| A::Error::duplicate_field("items"))?;
                    count = Some(fields.next_value_seed(rows)?);
                }
                PageField::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        count.ok_or_else(|| A::Error::missing_field("items"))
    }
}

/// A row of the definitions of a virtual host.
pub(super) enum Definition {
    Exchange(Exchange),
    /// Those that end with their connections are not among them.
    Queue(QueueDefinition),
    Binding(Binding),
    Policy(Policy),
}

/// All of a virtual host that matters, in one answer: `take` gets each row.
pub(super) struct Definitions<F>(pub(super) F);

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Section {
    Exchanges,
    Queues,
    Bindings,
    Policies,
    #[serde(other)]
    Other,
}

impl<'de, F: FnMut(Definition)> DeserializeSeed<'de> for Definitions<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Definition)> Visitor<'de> for Definitions<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the definitions of a virtual host")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self(mut take) = self;
        let mut missing = vec![
            Section::Exchanges,
            Section::Queues,
            Section::Bindings,
            Section::Policies,
        ];
        while let Some(section) = fields.next_key()? {
            missing.retain(|other| *other != section);
            match section {
                Section::Exchanges => {
                    fields.next_value_seed(Rows::all(|row| take(Definition::Exchange(row))))?;
                }
                Section::Queues => {
                    fields.next_value_seed(Rows::all(|row| take(Definition::Queue(row))))?;
                }
                Section::Bindings => {
                    fields.next_value_seed(Rows::all(|row| take(Definition::Binding(row))))?;
                }
                Section::Policies => {
                    fields.next_value_seed(Rows::all(|row| take(Definition::Policy(row))))?;
                }
                Section::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        // A broker that lists nothing is not one that has nothing.
        if missing.is_empty() {
            Ok(())
        } else {
            Err(A::Error::custom("a list is missing"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Deserializer;

    use super::*;

    /// The rows that were taken, and the count.
    fn page(json: &str) -> (Vec<u8>, Option<usize>) {
        let mut taken = Vec::new();
        let page = Page(Rows::at_most(3, |row| taken.push(row)));
        let count = page.deserialize(&mut Deserializer::from_str(json)).ok();
        (taken, count)
    }

    #[test]
    fn rows_beyond_the_bound_are_neither_read_nor_taken() {
        let cases = [
            (r#"{"items": []}"#, vec![], Some(0)),
            (
                r#"{"page": {"x": [1]}, "items": [1, 2, 3]}"#,
                vec![1, 2, 3],
                Some(3),
            ),
            (
                r#"{"items": [1, 2, 3, {"no": "row"}, 5]}"#,
                vec![1, 2, 3],
                Some(4),
            ),
            (r#"{"items": [1, "no row"]}"#, vec![1], None),
            (r#"{"items": [1], "items": [2]}"#, vec![1], None),
            ("{}", vec![], None),
        ];
        for (json, taken, count) in cases {
            assert_eq!(page(json), (taken, count), "{json}");
        }
    }

    #[test]
    fn definitions_without_a_list_are_an_error() {
        let lists = ["exchanges", "queues", "bindings", "policies"];
        for left_out in ["", "exchanges", "queues", "bindings", "policies"] {
            let lists = lists.iter().filter(|list| **list != left_out);
            let fields: Vec<String> = lists.map(|list| format!(r#""{list}": []"#)).collect();
            let json = format!(r#"{{"other": 1, {}}}"#, fields.join(", "));
            let read = Definitions(drop).deserialize(&mut Deserializer::from_str(&json));
            assert_eq!(read.is_ok(), left_out.is_empty(), "{json}");
        }
    }
}
