//! What does a `--command-config` say? A properties file as Kafka's own tools take it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use client::ClientOptions;
use config::key::nearest;

/// One setting with its place, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    place: String,
    key: String,
    value: String,
}

/// The settings of a file, in its order; the last of two with one key counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Properties(Vec<Setting>);

/// What has an effect here.
const KNOWN: &[&str] = &[
    "bootstrap.servers",
    "client.id",
    "default.api.timeout.ms",
    "metadata.max.age.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
];

impl Properties {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line has no `=` or `:`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("failed to read {file}"))?;
        Self::parse(&file, &text)
    }

    fn parse(file: &str, text: &str) -> anyhow::Result<Self> {
        let mut settings = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((at, first)) = lines.next() {
            let mut line = first.trim_start().to_owned();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            // A backslash at the end continues on the next line, as in Java's properties.
            while let Some(head) = line.strip_suffix('\\') {
                let next = lines.next().map_or("", |(_, next)| next.trim_start());
                line = format!("{head}{next}");
            }
            let place = format!("{file}:{}", at + 1);
            let Some((key, value)) = line.split_once(['=', ':']) else {
                bail!("{place}: {line:?} is no setting: want key=value");
            };
            settings.push(Setting {
                place,
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
        Ok(Self(settings))
    }

    fn last(&self, key: &str) -> Option<&Setting> {
        self.0.iter().rev().find(|setting| setting.key == key)
    }

    pub(super) fn bootstrap_servers(&self) -> Option<&str> {
        Some(self.last("bootstrap.servers")?.value.as_str())
    }

    /// The options with these settings.
    ///
    /// # Errors
    /// A value makes no sense, or asks for what this client cannot do.
    pub(super) fn apply(&self, mut options: ClientOptions) -> anyhow::Result<ClientOptions> {
        if let Some(setting) = self.last("client.id") {
            options.client_id.clone_from(&setting.value);
        }
        for (key, target) in [
            ("default.api.timeout.ms", &mut options.api_timeout),
            ("metadata.max.age.ms", &mut options.metadata_max_age),
            ("request.timeout.ms", &mut options.request_timeout),
            ("retry.backoff.max.ms", &mut options.retry_backoff_max),
            ("retry.backoff.ms", &mut options.retry_backoff),
            (
                "socket.connection.setup.timeout.ms",
                &mut options.connect_timeout,
            ),
        ] {
            if let Some(Setting { place, value, .. }) = self.last(key) {
                let millis = value.parse().map_err(|_| {
                    anyhow::anyhow!("{place}: {key}={value}: want a number of milliseconds")
                })?;
                *target = Duration::from_millis(millis);
            }
        }
        if let Some(Setting { place, value, .. }) = self.last("security.protocol")
            && !value.eq_ignore_ascii_case("PLAINTEXT")
        {
            bail!(
                "{place}: security.protocol={value}: this version speaks PLAINTEXT only; TLS and SASL are not there yet"
            );
        }
        Ok(options)
    }

    /// One line for each setting that does nothing here, so that nobody believes it does.
    pub(super) fn without_effect(&self) -> Vec<String> {
        let others = self
            .0
            .iter()
            .filter(|setting| !KNOWN.contains(&setting.key.as_str()));
        others
            .map(|setting| {
                let hint = nearest(&setting.key, KNOWN.iter().copied())
                    .map(|known| format!(": did you mean {known}?"))
                    .unwrap_or_default();
                format!(
                    "{}: {} has no effect here{hint}",
                    setting.place, setting.key
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> anyhow::Result<Properties> {
        Properties::parse("client.properties", text)
    }

    #[test]
    fn settings_reach_the_client_and_the_last_of_two_counts() {
        let text = "# a comment\n! another\nclient.id = me\nclient.id: you\nbootstrap.servers=a:1,\\\n  b:2\nrequest.timeout.ms=1500\n";
        let properties = parsed(text).unwrap();
        assert_eq!(properties.bootstrap_servers(), Some("a:1,b:2"));
        let options = properties.apply(ClientOptions::new("c:3")).unwrap();
        assert_eq!(options.client_id, "you");
        assert_eq!(options.request_timeout, Duration::from_millis(1500));
        assert_eq!(properties.without_effect(), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_place() {
        for (text, want) in [
            (
                "\nsecurity.protocol=SASL_SSL\n",
                "client.properties:2: security.protocol=SASL_SSL: this version speaks PLAINTEXT only",
            ),
            (
                "request.timeout.ms=soon",
                "client.properties:1: request.timeout.ms=soon: want a number of milliseconds",
            ),
            (
                "nonsense",
                "client.properties:1: \"nonsense\" is no setting",
            ),
        ] {
            let outcome = parsed(text).and_then(|p| p.apply(ClientOptions::new("a:1")));
            let error = outcome.unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn a_setting_without_effect_is_named() {
        assert_eq!(
            parsed("client.idd=x\nkey.serializer=y")
                .unwrap()
                .without_effect(),
            [
                "client.properties:1: client.idd has no effect here: did you mean client.id?",
                "client.properties:2: key.serializer has no effect here",
            ]
        );
    }
}
