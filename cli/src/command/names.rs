//! Names on the command line that several commands share, and what they stand for.

use clap::ValueEnum;

/// How batches are compressed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum CompressionName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<CompressionName> for corelane_perf::Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::None => Self::None,
            CompressionName::Gzip => Self::Gzip,
            CompressionName::Snappy => Self::Snappy,
            CompressionName::Lz4 => Self::Lz4,
            CompressionName::Zstd => Self::Zstd,
        }
    }
}

impl From<CompressionName> for corelane_client::Compression {
    fn from(name: CompressionName) -> Self {
        corelane_perf::Compression::from(name).into()
    }
}

/// What a producer waits for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AcksName {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

impl From<AcksName> for corelane_perf::Acks {
    fn from(name: AcksName) -> Self {
        match name {
            AcksName::None => Self::None,
            AcksName::Leader => Self::Leader,
            AcksName::All => Self::All,
        }
    }
}

impl From<AcksName> for corelane_client::Acks {
    fn from(name: AcksName) -> Self {
        corelane_perf::Acks::from(name).into()
    }
}
