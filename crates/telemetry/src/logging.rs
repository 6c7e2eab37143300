//! Where do log lines go, and which ones?

use std::env;
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::TryInitError;

/// Environment variable with the filter, in the syntax of `tracing`'s `EnvFilter`.
pub const FILTER_VARIABLE: &str = "TIDEMARK_LOG";
/// Environment variable with the format: `text` or `json`.
pub const FORMAT_VARIABLE: &str = "TIDEMARK_LOG_FORMAT";

/// What is worth a line by default. The libraries below narrate every message at `info`.
const DEFAULT_FILTER: &str =
    "info,openraft=off,h2=warn,hyper=warn,hyper_util=warn,tower=warn,tonic=warn,kube_client=warn";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// What is logged and how. Both can be overridden by the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Which lines, in the syntax of `tracing`'s `EnvFilter`.
    pub filter: String,
    /// How they look.
    pub format: LogFormat,
}

/// Where a table on the screen says what goes on, only what went wrong is worth a line.
const PROBLEMS_FILTER: &str = "warn,openraft=off";

impl LogConfig {
    /// Warnings and errors alone, for commands that show progress in another way.
    #[must_use]
    pub fn problems_only() -> Self {
        Self {
            filter: PROBLEMS_FILTER.to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: DEFAULT_FILTER.to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An unknown format.
    #[error("failed to read the log format {0:?}: want text or json")]
    Format(String),
    /// A filter that makes no sense.
    #[error("failed to read the log filter {filter:?}: {problem}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong.
        problem: String,
    },
    /// Something else has set up logging before.
    #[error("failed to set up logging")]
    AlreadySet(#[source] TryInitError),
}

/// Sets up logging for the whole process, on standard error.
///
/// # Errors
/// When the filter or the format makes no sense, or logging is set up already.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let format = match env::var(FORMAT_VARIABLE) {
        Ok(text) if !text.is_empty() => text.parse()?,
        _ => config.format,
    };
    let filter = env::var(FILTER_VARIABLE)
        .ok()
        .filter(|filter| !filter.is_empty())
        .unwrap_or_else(|| config.filter.clone());
    let filter = parse(&filter)?;
    let builder = fmt::Subscriber::builder()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    };
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).map_err(LogError::AlreadySet)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter {
            filter: filter.to_owned(),
            problem: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_filters_are_understood() {
        parse(DEFAULT_FILTER).unwrap();
        parse(PROBLEMS_FILTER).unwrap();
    }

    #[test]
    fn a_wrong_filter_or_format_is_named() {
        let error = parse("broker=loud").unwrap_err();
        assert!(error.to_string().contains("broker=loud"), "{error}");
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert!(error.to_string().contains("text or json"), "{error}");
    }
}
