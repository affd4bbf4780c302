//! Where messages go: journald always, stdout in the foreground unless that is journald too, stderr while a daemonizing start can
//! still fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

const IDENTIFIER: &str = "pmxcfs";

/// Stream that messages are copied to beside journald.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The daemon stays in the foreground.
    Stdout,
    /// The start may still fail; later the stream leads nowhere.
    Stderr,
}

/// The level of the daemon's log, which `.debug` switches at run time.
#[derive(Debug, Clone)]
pub struct LogLevel {
    debug: Arc<AtomicBool>,
    filter: Option<reload::Handle<LevelFilter, Registry>>,
}

fn filter(debug: bool) -> LevelFilter {
    if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    }
}

/// Level of messages of libraries that use the `log` crate. The FUSE library logs every request at debug level, which must
/// cost nothing unless somebody wants to see it, and warns of each kind of request that it refuses by itself.
fn library_filter(debug: bool) -> log::LevelFilter {
    if debug {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Error
    }
}

impl LogLevel {
    /// A level that no log follows.
    #[cfg(test)]
    pub(crate) fn detached(debug: bool) -> Self {
        Self {
            debug: Arc::new(AtomicBool::new(debug)),
            filter: None,
        }
    }

    /// Whether debug messages are on.
    pub fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// Switches debug messages. Setting the present value does nothing.
    pub fn set_debug(&self, debug: bool) {
        if self.debug.swap(debug, Ordering::Relaxed) == debug {
            return;
        }
        if !debug {
            tracing::info!("disable debug mode");
        }
        if let Some(handle) = &self.filter {
            // Fails only when the subscriber is gone, and then nobody logs.
            let _reloaded = handle.modify(|level| *level = filter(debug));
            log::set_max_level(library_filter(debug));
        }
        if debug {
            tracing::info!("enable debug mode");
        }
    }
}

/// Opens the log. Call once per process, after any fork.
pub fn init(debug: bool, stream: Stream) -> LogLevel {
    let (level, handle) = reload::Layer::new(filter(debug));
    let plain = fmt::layer().with_ansi(false).with_target(false);
    // Without journald, as in a container, the stream is all there is.
    let journal = tracing_journald::layer().ok().map(|layer| {
        layer
            .with_syslog_identifier(IDENTIFIER.to_owned())
            .with_field_prefix(None)
            .with_priority_mappings(PriorityMappings {
                error: Priority::Critical,
                warn: Priority::Warning,
                info: Priority::Notice,
                debug: Priority::Debug,
                trace: Priority::Debug,
            })
    });
    let stream_layer = match stream {
        Stream::Stdout if journal.is_some() && is_stdout_the_journal() => None,
        Stream::Stdout => Some(plain.with_writer(std::io::stdout).boxed()),
        Stream::Stderr => Some(plain.with_writer(std::io::stderr).boxed()),
    };
    let subscriber = Registry::default()
        .with(level)
        .with(stream_layer)
        .with(journal);
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && tracing_log::LogTracer::init().is_ok()
    {
        log::set_max_level(library_filter(debug));
    }
    LogLevel {
        debug: Arc::new(AtomicBool::new(debug)),
        filter: Some(handle),
    }
}

/// Whether the service manager has connected stdout to the journal: it names device and inode of that stream.
fn is_stdout_the_journal() -> bool {
    let Ok(stdout) = nix::sys::stat::fstat(std::io::stdout()) else {
        return false;
    };
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    named == format!("{}:{}", stdout.st_dev, stdout.st_ino)
}
