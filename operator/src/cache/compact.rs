//! An object as the cache keeps it: as JSON, because a value of its type takes several times the memory. A Deployment has an empty field for
//! each of the thirty sources of a volume and for each source of an environment variable.

use std::{borrow::Cow, fmt, marker::PhantomData};

use kube::{Resource, core::ObjectMeta, runtime::watcher::Event};
use serde::{Serialize, de::DeserializeOwned};

/// An object of kind `K`.
pub struct Compact<K> {
    /// What triggers and the cache need: who it is, and who owns it.
    meta: ObjectMeta,
    json: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource + Serialize + DeserializeOwned> Compact<K> {
    /// An object, without what its type does not know and without its managed fields, which nobody reads.
    pub fn new(mut object: K) -> Self {
        let meta = object.meta_mut();
        meta.managed_fields = None;
        let meta = ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            owner_references: meta.owner_references.clone(),
            ..ObjectMeta::default()
        };
        let json = serde_json::to_vec(&object).unwrap_or_default();
        Self {
            meta,
            json: json.into(),
            kind: PhantomData,
        }
    }

    /// The object. `None` never happens: it is read from what [`Compact::new`] has written.
    pub(super) fn object(&self) -> Option<K> {
        serde_json::from_slice(&self.json).ok()
    }

    /// An event of a watch, with its object as it is kept.
    pub(super) fn event(event: Event<K>) -> Event<Self> {
        match event {
            Event::Apply(object) => Event::Apply(Self::new(object)),
            Event::Delete(object) => Event::Delete(Self::new(object)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(Self::new(object)),
            Event::InitDone => Event::InitDone,
        }
    }
}

impl<K: Resource> Resource for Compact<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

impl<K> Clone for Compact<K> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            json: self.json.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Compact<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            meta,
            json,
            kind: _,
        } = self;
        f.debug_struct("Compact")
            .field("name", &meta.name)
            .field("namespace", &meta.namespace)
            .field("bytes", &json.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
    };
    use serde_json::json;

    use super::*;

    fn deployment(variables: usize) -> Deployment {
        let variable = |n| json!({"name": format!("PAPO_VARIABLE_{n}"), "value": "1"});
        let variables: Vec<_> = (0..variables).map(variable).collect();
        serde_json::from_value(json!({
            "metadata": {
                "name": "chat-geral", "namespace": "team", "uid": "u", "labels": {"a": "b"},
                "ownerReferences": [{"apiVersion": "papo.chat/v1alpha1", "kind": "ChatRoom", "name": "geral", "uid": "r"}],
            },
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": "server", "env": variables}]}}},
            "status": {"replicas": 1},
        }))
        .expect("a Deployment")
    }

    #[test]
    fn object_comes_back_as_it_was() {
        let compact = Compact::new(deployment(3));
        assert_eq!(compact.object(), Some(deployment(3)));
        assert_eq!(
            compact.meta().owner_references.as_ref().map(Vec::len),
            Some(1)
        );
    }

    #[test]
    fn managed_fields_are_not_kept() {
        let mut object = deployment(3);
        object.metadata.managed_fields = Some(vec![ManagedFieldsEntry::default(); 10]);
        let kept = Compact::new(object).object().expect("an object");
        assert_eq!(kept.metadata.managed_fields, None);
    }

    #[test]
    fn environment_takes_a_fraction_of_its_value() {
        use k8s_openapi::api::core::v1::EnvVar;
        let kept = |variables| Compact::new(deployment(variables)).json.len();
        assert!((kept(50) - kept(0)) * 4 < 50 * size_of::<EnvVar>());
    }
}
