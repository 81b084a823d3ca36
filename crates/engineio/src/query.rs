//! The query of an Engine.IO request.

/// What a request asks for. Nothing in it is percent-decoded: no value that a server accepts needs to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// `EIO`: the version of the protocol.
    pub version: Option<&'a str>,
    /// `transport`: `polling` or `websocket`.
    pub transport: Option<&'a str>,
    /// `sid`: the session, if the request does not open one.
    pub sid: Option<&'a str>,
    /// `t`: differs with each request of a client, so that no cache answers it.
    pub request: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Parses a query. Of a parameter that stands there twice, the first counts.
    pub fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let parameter = match name {
                "EIO" => &mut parsed.version,
                "transport" => &mut parsed.transport,
                "sid" => &mut parsed.sid,
                "t" => &mut parsed.request,
                _ => continue,
            };
            parameter.get_or_insert(value);
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_among_others() {
        let query = Query::parse("t=x&EIO=4&transport=polling&sid=a%20b&EIO=3&sid=c&x");
        let expected = Query {
            version: Some("4"),
            transport: Some("polling"),
            sid: Some("a%20b"),
            request: Some("x"),
        };
        assert_eq!(query, expected);
        assert_eq!(Query::parse(""), Query::default());
    }
}
