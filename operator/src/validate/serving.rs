//! How a room's servers serve: their settings that a spec may have, within the bounds that `papo_protocol::limits` owns.

use papo_protocol::{AllowedOrigin, BasePath, limits as bounds};

use super::{invalid::Invalid, limits::within, room::Serving};
use crate::crd::ChatRoomSpec;

/// The settings of a spec. What it leaves out has the server's default.
pub(super) fn serving(spec: &ChatRoomSpec) -> Result<Serving, Invalid> {
    let limits = spec.limits.as_ref();
    Ok(Serving {
        base_path: base_path(spec)?,
        allowed_origins: allowed_origins(spec.allowed_origins.as_deref().unwrap_or_default())?,
        long_polling: spec.long_polling.unwrap_or(true),
        history_page: within(
            "limits.historyPage",
            limits.and_then(|limits| limits.history_page),
            bounds::HISTORY_PAGE,
        )?,
        slow_reader_timeout: within(
            "limits.slowReaderTimeout",
            limits.and_then(|limits| limits.slow_reader_timeout),
            bounds::SLOW_READER_TIMEOUT,
        )?,
        drain_period: within("drainPeriod", spec.drain_period, bounds::DRAIN_PERIOD)?,
    })
}

/// The path of the room's routes. Ingress and HTTPRoute have the same, because the servers serve one.
fn base_path(spec: &ChatRoomSpec) -> Result<BasePath, Invalid> {
    let ingress = spec.ingress.as_ref().map(|it| it.path.as_deref());
    let gateway = spec.gateway.as_ref().map(|it| it.path.as_deref());
    let ingress = ingress.map(|text| path("ingress.path", text)).transpose()?;
    let gateway = gateway.map(|text| path("gateway.path", text)).transpose()?;
    match (ingress, gateway) {
        (Some(ingress), Some(gateway)) if ingress != gateway => {
            Err(Invalid::Paths(ingress, gateway))
        }
        (ingress, gateway) => Ok(ingress.or(gateway).unwrap_or_default()),
    }
}

/// The path of a route; that of the whole host if it has none.
pub(super) fn path(field: &'static str, text: Option<&str>) -> Result<BasePath, Invalid> {
    let parsed = text.map(str::parse::<BasePath>).transpose();
    let path = parsed.map_err(|problem| Invalid::Path { field, problem })?;
    Ok(path.unwrap_or_default())
}

fn allowed_origins(origins: &[String]) -> Result<Vec<AllowedOrigin>, Invalid> {
    if origins.len() > bounds::ALLOWED_ORIGINS_MAX {
        return Err(Invalid::Origins(origins.len()));
    }
    origins.iter().map(|text| allowed_origin(text)).collect()
}

fn allowed_origin(text: &str) -> Result<AllowedOrigin, Invalid> {
    let length = text.chars().count();
    if length > bounds::ORIGIN_LENGTH_MAX {
        return Err(Invalid::OriginLength(length));
    }
    text.parse().map_err(|problem| Invalid::Origin {
        text: text.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{Gateway, Ingress, Limits};

    fn routes(ingress: Option<&str>, gateway: Option<&str>) -> ChatRoomSpec {
        ChatRoomSpec {
            ingress: ingress.map(|path| Ingress {
                path: Some(path.to_owned()),
                ..Ingress::default()
            }),
            gateway: gateway.map(|path| Gateway {
                path: Some(path.to_owned()),
                ..Gateway::default()
            }),
            ..ChatRoomSpec::default()
        }
    }

    #[test]
    fn routes_of_a_room_have_one_path() {
        for (ingress, gateway, expected) in [
            (None, None, Some("/")),
            (Some("/chat"), None, Some("/chat")),
            (None, Some("/chat/geral/"), Some("/chat/geral")),
            (Some("/chat"), Some("/chat/"), Some("/chat")),
            (Some("/chat"), Some("/"), None),
            (Some("chat"), None, None),
            (None, Some("/socket.io"), None),
        ] {
            let path = base_path(&routes(ingress, gateway)).ok();
            let path = path.map(|path| path.to_string());
            assert_eq!(path.as_deref(), expected, "{ingress:?} {gateway:?}");
        }
    }

    #[test]
    fn origins_cannot_smuggle_others_in() {
        // The servers get all of them in one text, separated by commas.
        for text in [
            "",
            "a.example",
            "://a.example",
            "https://a.example,https://b.example",
            "https://a.example,*",
            "https://a.example https://b.example",
            "https://a.example\0",
        ] {
            assert!(allowed_origin(text).is_err(), "{text:?}");
        }
        for text in ["https://café.example:8443/", "FILE://", "null", "*"] {
            assert!(allowed_origin(text).is_ok(), "{text}");
        }
        let long = format!(
            "https://{}.example",
            "a.".repeat(bounds::ORIGIN_LENGTH_MAX / 2)
        );
        let length = long.len();
        assert_eq!(allowed_origin(&long), Err(Invalid::OriginLength(length)));
        let many = vec!["https://a.example".to_owned(); bounds::ALLOWED_ORIGINS_MAX + 1];
        assert_eq!(allowed_origins(&many), Err(Invalid::Origins(many.len())));
        assert!(allowed_origins(&many[1..]).is_ok());
    }

    #[test]
    fn settings_outside_the_bounds_of_the_server_are_invalid() {
        for (history_page, slow_reader_timeout, drain_period, is_valid) in [
            (None, None, None, true),
            (Some(1_000), Some(600), Some(0), true),
            (Some(0), None, None, false),
            (Some(1_001), None, None, false),
            (None, Some(0), None, false),
            (None, Some(601), None, false),
            (None, None, Some(3_601), false),
        ] {
            let spec = ChatRoomSpec {
                limits: Some(Limits {
                    history_page,
                    slow_reader_timeout,
                    ..Limits::default()
                }),
                drain_period,
                ..ChatRoomSpec::default()
            };
            let serving = serving(&spec);
            assert_eq!(serving.is_ok(), is_valid, "{serving:?}");
        }
    }
}
