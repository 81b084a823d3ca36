//! The access file, with the files that it names.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use papo_protocol::{
    Access,
    access::{InvalidAccess, IssuerUrl},
};

/// Longest file, in bytes: a Secret of Kubernetes has no more.
const FILE_MAX: u64 = 1 << 20;

/// The content of the access file and of those that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    bytes: Arc<[u8]>,
    pub(super) access: Arc<Access>,
    /// Of each issuer.
    pub(super) sources: Vec<Source>,
}

/// Where the keys of an issuer come from. If it changes, the keys are fetched again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) issuer: IssuerUrl,
    pub(super) jwks_uri: Option<IssuerUrl>,
    /// The content of `caFile`, or why it cannot be read.
    pub(super) authority: Option<Result<Vec<u8>, String>>,
    /// The content of `keyFile`, or why it cannot be read.
    pub(super) secret: Option<Result<Vec<u8>, String>>,
}

/// Why an access file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It is not JSON, or of another shape.
    #[error("it is not the JSON of access rules: {0}")]
    Json(serde_json::Error),
    /// Its rules cannot be used.
    #[error(transparent)]
    Invalid(#[from] InvalidAccess),
}

impl Content {
    /// Reads the file, and parses it if it has changed. What is wrong with a file of an issuer is a problem of that issuer alone.
    pub(super) fn read(file: &Path, former: Option<&Self>) -> Result<Self, FileError> {
        let bytes = read(file).map_err(FileError::Read)?;
        let same = former.filter(|former| *former.bytes == *bytes);
        let (bytes, access) = if let Some(former) = same {
            (former.bytes.clone(), former.access.clone())
        } else {
            let access: Access = serde_json::from_slice(&bytes).map_err(FileError::Json)?;
            access.check()?;
            (bytes.into(), Arc::new(access))
        };
        let named =
            |path: Option<&PathBuf>| path.map(|path| read(path).map_err(|error| error.to_string()));
        let sources = access.issuers.iter().map(|issuer| Source {
            issuer: issuer.issuer.clone(),
            jwks_uri: issuer.jwks_uri.clone(),
            authority: named(issuer.ca_file.as_ref()),
            secret: named(issuer.key_file.as_ref()),
        });
        Ok(Self {
            sources: sources.collect(),
            bytes,
            access,
        })
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!(
            "it has more than {FILE_MAX} bytes"
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    /// A folder that is removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = format!("papo-access-{:016x}", rand::random::<u64>());
            let folder = std::env::temp_dir().join(folder);
            fs::create_dir(&folder).expect("created");
            Self(folder)
        }

        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).expect("written");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn error_says_what_is_wrong() {
        let folder = Folder::new();
        for (content, expected) in [
            ("{", "it is not the JSON of access rules: EOF"),
            (r#"{"gests":"Write"}"#, "unknown field `gests`"),
            ("{}", "nobody may enter"),
            (r#"{"guests":"Everything"}"#, "unknown variant"),
        ] {
            let file = folder.write("access.json", content);
            let error = Content::read(&file, None)
                .expect_err("unusable")
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = Content::read(&folder.0.join("missing"), None).expect_err("missing");
        assert!(error.to_string().contains("cannot be read"), "{error}");
        let long = folder.write("access.json", " ".repeat(2 << 20));
        let error = Content::read(&long, None).expect_err("too long");
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn missing_file_of_an_issuer_is_its_own_problem() {
        let folder = Folder::new();
        let authority = folder.0.join("ca.crt");
        let access = json!({ "issuers": [
            { "issuer": "https://a.example", "audiences": ["papo"], "caFile": authority },
            { "issuer": "https://b.example", "audiences": ["papo"] },
        ]});
        let file = folder.write("access.json", access.to_string());
        let before = Content::read(&file, None).expect("usable");
        let missing = before.sources[0].authority.as_ref().expect("named");
        assert!(missing.is_err());
        assert_eq!(before.sources[1].authority, None);
        folder.write("ca.crt", "PEM");
        let after = Content::read(&file, Some(&before)).expect("usable");
        assert!(Arc::ptr_eq(&after.access, &before.access), "parsed once");
        assert_eq!(after.sources[0].authority, Some(Ok(b"PEM".to_vec())));
        assert_ne!(after, before, "the change is seen");
    }
}
