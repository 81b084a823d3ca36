//! Display names: which names the server accepts, in which form, and which names look alike.
//!
//! - A name is trimmed, each run of spaces in it is one space, and it is in Normalization Form C (UAX #15), so that equal names are
//!   equal texts.
//! - Every character of it is visible: no control, format or private-use characters, and no `Default_Ignorable_Code_Point` (UAX
//!   #44). The exceptions are the joiners U+200C and U+200D where RFC 5892, appendix A (CONTEXTJ) allows them: Persian, Malayalam
//!   and other scripts need them.
//! - Marks do not pile up beyond the line (UTS #39, 5.4).
//! - Two names look alike if they have the same skeleton (UTS #39, 4), in the given case or folded.

use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory, JoiningType,
        NoncharacterCodePoint, Script,
    },
};
use papo_protocol::{SenderId, UserName};
use unicode_security::confusable_detection::skeleton;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Characters that have a visible category, and show nothing or only a space.
const BLANK: [char; 6] = [
    '\u{2800}',  // BRAILLE PATTERN BLANK
    '\u{fffc}',  // OBJECT REPLACEMENT CHARACTER
    '\u{13441}', // EGYPTIAN HIEROGLYPH FULL BLANK
    '\u{13442}', // EGYPTIAN HIEROGLYPH HALF BLANK
    '\u{16fe4}', // KHITAN SMALL SCRIPT FILLER
    '\u{1d159}', // MUSICAL SYMBOL NULL NOTEHEAD
];
/// Most marks in a row that belong to no script, or enclose: no language stacks more on one letter.
const MOST_MARKS: usize = 2;
/// Most marks in a row of any kind. UTS #39, 5.4 has this number: Tibetan stacks three in everyday names.
const MOST_MARKS_OF_SCRIPT: usize = 4;
/// Characters by which the mark of difference grows until it is different: the first has four.
pub const MARK_STEP: usize = 4;
/// Most characters of a sender in a mark: all that the server derives.
pub const MARK_MAX: usize = 24;
/// What a hexadecimal digit looks like, as [`looks`] has it.
const DIGIT_LOOKS: &str = "Ool23456789abcdef";

/// Why a text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Only spaces.
    #[error("a name needs at least one visible character")]
    Empty,
    /// Longer than the limit.
    #[error("a name has at most {0} characters")]
    Length(usize),
    /// A control character, such as a line break.
    #[error("a name cannot contain the control character {}", code_point(*.0))]
    Control(char),
    /// A character that nobody sees, or that changes how the text beside it is shown.
    #[error("a name cannot contain {}, which is invisible", code_point(*.0))]
    Invisible(char),
    /// A private-use character or noncharacter.
    #[error("a name cannot contain {}, which has no meaning in Unicode", code_point(*.0))]
    NoCharacter(char),
    /// A joiner that joins nothing.
    #[error("a name can contain {} only between letters that it joins or separates", code_point(*.0))]
    Joiner(char),
    /// A mark with no letter to stand on.
    #[error("a name cannot begin with {}, which is a combining mark", code_point(*.0))]
    LeadingMark(char),
    /// Marks that would cover the lines above and below.
    #[error(
        "a name has at most {} combining marks in a row, or {} of its own script",
        MOST_MARKS,
        MOST_MARKS_OF_SCRIPT
    )]
    Marks,
}

/// The name that a text is, of at most `most` characters.
pub fn name(text: &str, most: usize) -> Result<UserName, InvalidName> {
    let words = text.trim().split(is_space).filter(|word| !word.is_empty());
    let spaced = words.collect::<Vec<_>>().join(" ");
    let name = ComposingNormalizerBorrowed::new_nfc().normalize(&spaced);
    let characters: Vec<char> = name.chars().collect();
    let first = *characters.first().ok_or(InvalidName::Empty)?;
    if characters.len() > most {
        return Err(InvalidName::Length(most));
    }
    for (place, character) in characters.iter().enumerate() {
        check(*character, &characters[..place], &characters[place + 1..])?;
    }
    if is_mark(category(first)) {
        return Err(InvalidName::LeadingMark(first));
    }
    if has_pile_of_marks(&characters) {
        return Err(InvalidName::Marks);
    }
    // What is left is a subset of what a record can hold.
    name.parse().map_err(|_| InvalidName::Empty)
}

/// The name with the first characters of the sender behind it: the mark of difference.
pub fn marked(name: &UserName, sender: &SenderId, characters: usize) -> UserName {
    let mark: String = sender.as_str().chars().take(characters).collect();
    // A name with hexadecimal digits behind it is a name.
    let marked = format!("{name} #{mark}").parse();
    marked.unwrap_or_else(|_| name.clone())
}

/// The name without what looks like marks behind it: only the server gives them. A mark that somebody has chosen could be that of another sender.
pub fn unmarked(name: UserName) -> UserName {
    let mut base = name.as_str();
    while let Some((before, mark)) = base.rsplit_once(' ')
        && is_like_a_mark(mark)
    {
        base = before;
    }
    if base.len() == name.as_str().len() {
        return name;
    }
    base.parse().unwrap_or(name)
}

/// Whether a word looks like `#` and 4 to 24 hexadecimal digits.
fn is_like_a_mark(word: &str) -> bool {
    looks_of(word).iter().any(|Look(look)| {
        let digits = look.strip_prefix('#').unwrap_or_default();
        (MARK_STEP..=MARK_MAX).contains(&digits.chars().count())
            && digits.chars().all(|digit| DIGIT_LOOKS.contains(digit))
    })
}

/// What a name looks like. Two names look alike if they share one of these.
///
/// Folding before and after the replacement of confusable characters finds different pairs: `Ian` looks like `lan` only with its
/// capital letter, and is the name `ian` only without.
pub fn looks(name: &UserName) -> [Look; 2] {
    looks_of(name.as_str())
}

fn looks_of(text: &str) -> [Look; 2] {
    [
        Look(fold(&skeleton(text).collect::<String>())),
        Look(skeleton(&fold(text)).collect()),
    ]
}

/// A skeleton: the same for names that look alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Look(String);

/// Upper case first, so that letters with one capital letter are one letter.
fn fold(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

fn check(character: char, before: &[char], after: &[char]) -> Result<(), InvalidName> {
    if matches!(character, ZERO_WIDTH_NON_JOINER | ZERO_WIDTH_JOINER) {
        let allowed = is_joiner_allowed(character, before, after);
        return allowed.then_some(()).ok_or(InvalidName::Joiner(character));
    }
    let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character);
    if is_ignorable || BLANK.contains(&character) {
        return Err(InvalidName::Invisible(character));
    }
    if CodePointSetData::new::<NoncharacterCodePoint>().contains(character) {
        return Err(InvalidName::NoCharacter(character));
    }
    match category(character) {
        GeneralCategory::Control => Err(InvalidName::Control(character)),
        GeneralCategory::Format
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => Err(InvalidName::Invisible(character)),
        GeneralCategory::PrivateUse => Err(InvalidName::NoCharacter(character)),
        _ => Ok(()),
    }
}

/// RFC 5892, appendix A.1 and A.2: after a virama either joiner; between letters that would join, the non-joiner.
fn is_joiner_allowed(joiner: char, before: &[char], after: &[char]) -> bool {
    let combining_class = CodePointMapData::<CanonicalCombiningClass>::new();
    let follows_virama = before
        .last()
        .is_some_and(|last| combining_class.get(*last) == CanonicalCombiningClass::Virama);
    let joining_type = |character: &char| CodePointMapData::<JoiningType>::new().get(*character);
    let is_opaque = |joining: &JoiningType| *joining != JoiningType::Transparent;
    let left = before.iter().rev().map(joining_type).find(is_opaque);
    let right = after.iter().map(joining_type).find(is_opaque);
    let separates = matches!(
        (left, right),
        (
            Some(JoiningType::LeftJoining | JoiningType::DualJoining),
            Some(JoiningType::RightJoining | JoiningType::DualJoining)
        )
    );
    follows_virama || (joiner == ZERO_WIDTH_NON_JOINER && separates)
}

/// Marks that take space of their own (`Mc`), as the vowels of Indic scripts, do not pile up.
fn has_pile_of_marks(characters: &[char]) -> bool {
    let (mut marks, mut of_no_script) = (0, 0);
    characters.iter().any(|character| {
        match category(*character) {
            category @ (GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark) => {
                marks += 1;
                let script = CodePointMapData::<Script>::new().get(*character);
                let is_of_script =
                    script != Script::Inherited && category != GeneralCategory::EnclosingMark;
                of_no_script += usize::from(!is_of_script);
            }
            // A joiner is no place to begin a new pile.
            GeneralCategory::Format => {}
            _ => (marks, of_no_script) = (0, 0),
        }
        marks > MOST_MARKS_OF_SCRIPT || of_no_script > MOST_MARKS
    })
}

fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

fn is_mark(category: GeneralCategory) -> bool {
    matches!(
        category,
        GeneralCategory::NonspacingMark
            | GeneralCategory::EnclosingMark
            | GeneralCategory::SpacingMark
    )
}

fn is_space(character: char) -> bool {
    category(character) == GeneralCategory::SpaceSeparator
}

/// `U+200B`: the notation in which a character that nobody sees can be searched for.
fn code_point(character: char) -> impl fmt::Display {
    format!("U+{:04X}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(text: &str) -> String {
        match name(text, 40) {
            Ok(name) => name.into(),
            Err(error) => panic!("{text:?}: {error}"),
        }
    }

    fn look_alike(one: &str, other: &str) -> bool {
        let looks_of_name = |text: &str| looks(&name(text, 40).expect("valid"));
        let (one, other) = (looks_of_name(one), looks_of_name(other));
        one.iter().any(|look| other.contains(look))
    }

    #[test]
    fn names_of_many_languages_are_accepted() {
        for text in [
            "Ana",
            "José Álvaro d'Ávila-Nunes",
            "李雷",
            "عَلِيّ",
            "علی\u{200c}رضا",
            "അവന്\u{200d}",
            "क्ष\u{94d}\u{200d}",
            "ကျော်",
            "སྒྲོལ་མ",
            "שָּׁלוֹם",
            "ที่รัก",
            "Nguyễn Thị Ệ",
            "👩🏽 Ana",
            "<b>Eva",
            "42",
        ] {
            assert_eq!(valid(text), text);
        }
    }

    #[test]
    fn names_are_trimmed_composed_and_singly_spaced() {
        for (text, expected) in [
            (" Ana \n", "Ana"),
            ("Ana\u{a0} \u{3000}Sá", "Ana Sá"),
            ("Jose\u{301}", "José"),
            ("\u{212b}ke", "Åke"),
        ] {
            assert_eq!(valid(text), expected);
        }
    }

    #[test]
    fn names_with_invisible_characters_are_rejected() {
        for character in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180e}',
            '\u{200b}',
            '\u{200e}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffc}',
            '\u{13441}',
            '\u{16fe4}',
            '\u{1d159}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            for text in [
                format!("A{character}na"),
                format!("Ana{character}"),
                character.to_string(),
            ] {
                if text.trim().is_empty() {
                    continue;
                }
                assert_eq!(
                    name(&text, 40),
                    Err(InvalidName::Invisible(character)),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn controls_and_noncharacters_are_rejected() {
        for (text, expected) in [
            ("a\nb", InvalidName::Control('\n')),
            ("\u{7}", InvalidName::Control('\u{7}')),
            ("a\u{9b}b", InvalidName::Control('\u{9b}')),
            ("a\u{2028}b", InvalidName::Invisible('\u{2028}')),
            ("a\u{e000}", InvalidName::NoCharacter('\u{e000}')),
            ("a\u{ffff}", InvalidName::NoCharacter('\u{ffff}')),
            ("  \u{3000} ", InvalidName::Empty),
            ("", InvalidName::Empty),
        ] {
            assert_eq!(name(text, 40), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn joiners_are_rejected_where_they_join_nothing() {
        for text in [
            "A\u{200c}na",
            "A\u{200d}na",
            "Ana\u{200c}",
            "\u{200d}",
            "👩\u{200d}🚀",
            "علی\u{200c}",
            "ع\u{200d}ل",
            "ر\u{200c}ض",
            "ع\u{200c}\u{200c}ل",
        ] {
            assert!(
                matches!(name(text, 40), Err(InvalidName::Joiner(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn piles_of_marks_are_rejected() {
        assert_eq!(valid("a\u{328}\u{301}"), "ą\u{301}");
        for text in [
            "q\u{301}\u{302}\u{303}",
            "ก\u{e47}\u{e47}\u{e47}\u{e47}\u{e47}",
            "x\u{489}\u{489}\u{489}",
        ] {
            assert_eq!(name(text, 40), Err(InvalidName::Marks), "{text:?}");
        }
        assert_eq!(
            name("\u{301}a", 40),
            Err(InvalidName::LeadingMark('\u{301}'))
        );
    }

    #[test]
    fn length_counts_characters_of_the_composed_name() {
        assert!(name(&"e\u{301}".repeat(40), 40).is_ok());
        assert_eq!(name(&"e".repeat(41), 40), Err(InvalidName::Length(40)));
    }

    #[test]
    fn rejection_names_the_character() {
        let error = name("A\u{200b}na", 40).expect_err("invisible");
        assert_eq!(
            error.to_string(),
            "a name cannot contain U+200B, which is invisible"
        );
    }

    #[test]
    fn imitations_look_alike_and_other_names_do_not() {
        for (one, other) in [
            ("Ana", "Аnа"),
            ("Ana", "ANA"),
            ("Ian", "lan"),
            ("Ian", "ian"),
            ("Rui", "Ruı"),
            ("paypal", "раураl"),
            ("Carmo", "Carrno"),
            ("علی\u{200c}رضا", "علیرضا"),
        ] {
            assert!(look_alike(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("Ana", "Bia"),
            ("Ana", "Aná"),
            ("Ana", "Ana 2"),
            ("Ana", "Ana #3f9a"),
        ] {
            assert!(!look_alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn mark_is_the_beginning_of_the_sender() {
        let sender = SenderId::from_trusted("3f9a0c");
        assert_eq!(
            marked(&name("Ana", 40).expect("valid"), &sender, MARK_STEP).as_str(),
            "Ana #3f9a"
        );
    }

    #[test]
    fn chosen_marks_are_no_part_of_a_name() {
        for (text, expected) in [
            ("Ana #3f9a", "Ana"),
            ("Ana #3F9A0C", "Ana"),
            ("Ana #0123456789abcdef01234567", "Ana"),
            ("Ana #3f9a #dddd", "Ana"),
            ("Ana Sá #3f9a", "Ana Sá"),
            ("Ana \u{ff03}3f9a", "Ana"),
            ("Ana #3f9\u{430}", "Ana"),
            ("Ana #\u{ff46}9a0", "Ana"),
            ("Ana #lO9a", "Ana"),
            ("Ana #3f9", "Ana #3f9"),
            (
                "Ana #0123456789abcdef012345678",
                "Ana #0123456789abcdef012345678",
            ),
            ("Ana #3f9g", "Ana #3f9g"),
            ("Ana#3f9a", "Ana#3f9a"),
            ("#3f9a", "#3f9a"),
            ("Ana #3f9a Sá", "Ana #3f9a Sá"),
        ] {
            let unmarked = unmarked(name(text, 60).expect("valid"));
            assert_eq!(unmarked.as_str(), expected, "{text}");
        }
    }

    #[test]
    fn mark_begins_at_a_space() {
        for character in '\0'..=char::MAX {
            let begins = |Look(look): &Look| look.ends_with(' ') || look.contains(" #");
            let is_allowed = check(character, &[], &[]).is_ok() && !is_space(character);
            let looks = looks_of(&character.to_string());
            assert!(!is_allowed || !looks.iter().any(begins), "{character:?}");
        }
    }

    #[test]
    fn all_digits_of_marks_are_found_by_their_looks() {
        for digit in "0123456789abcdef".chars() {
            let [Look(one), Look(other)] = looks_of(&digit.to_string());
            assert!(DIGIT_LOOKS.contains(&one) && DIGIT_LOOKS.contains(&other));
        }
    }

    proptest! {
        /// Names of arbitrary characters, among them many that are invisible, marks and joiners.
        #[test]
        fn accepted_names_are_stable_visible_and_short(text in "([\\p{L}\\p{M}]|[\u{61c}\u{200b}-\u{200f}\u{2800}\u{fe0f}\u{ffa0} ]|\\PC){0,12}") {
            if let Ok(accepted) = name(&text, 10) {
                prop_assert_eq!(name(accepted.as_str(), 10), Ok(accepted.clone()));
                prop_assert!(accepted.as_str().chars().count() <= 10);
                prop_assert!(accepted.as_str().parse::<UserName>().is_ok());
                let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
                let is_joiner = |c: char| matches!(c, ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER);
                prop_assert!(accepted.as_str().chars().all(|c| is_joiner(c) || !ignorable.contains(c)));
            }
        }

        #[test]
        fn name_looks_like_itself_in_any_case(text in "\\PC{1,12}") {
            if let (Ok(given), Ok(upper)) = (name(&text, 40), name(&text.to_uppercase(), 40)) {
                prop_assert!(looks(&given).iter().any(|look| looks(&upper).contains(look)));
            }
        }
    }
}
