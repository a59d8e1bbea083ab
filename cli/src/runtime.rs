//! The executor under the client library, and what all client commands say alike.

use std::future::Future;

use corelane_client::{Client, Error};
use corelane_protocol::ErrorCode;

use crate::command::BrokerArguments;
use crate::failure::Failure;
use crate::watch::ConnectionWatch;

/// Runs a client command to its end.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start threads: {error}")))?
        .block_on(command)
}

/// The first connection to the broker, for a command of one or a few requests.
pub(crate) async fn connect(arguments: &BrokerArguments) -> Result<Client, Failure> {
    connect_patiently(arguments, "up to 30 s").await
}

/// The first connection to the broker. If it is lost later, that is said, with how long the command will try
/// again.
pub(crate) async fn connect_patiently(
    arguments: &BrokerArguments,
    limit: &'static str,
) -> Result<Client, Failure> {
    let watch = ConnectionWatch::default();
    let listener = watch.clone();
    let builder = Client::builder()
        .bootstrap([&*arguments.broker])
        .client_name("corelane-cli")
        .on_connection_event(move |event| listener.take(&event));
    let connected = builder.connect().await;
    if connected.is_ok() {
        watch.start(&arguments.broker, limit);
    }
    connected.map_err(|error| match error {
        Error::Connect { address, reason } => Failure::with_advice(
            format_args!("cannot connect to {address}: {reason}"),
            "start a broker with `corelane serve`, or name another with --broker or CORELANE_BROKER",
        ),
        Error::InvalidArgument(message) => Failure::Usage(format!("--broker: {message}")),
        error => Failure::new(error),
    })
}

/// A failure of a request about one topic.
pub(crate) fn topic_failure(topic: &str, error: &Error) -> Failure {
    match error.code() {
        Some(ErrorCode::UnknownTopic) => Failure::with_advice(
            format_args!("there is no topic '{topic}'"),
            format_args!(
                "see all with `corelane topic list`, or make it with `corelane topic create {topic} --partitions N`"
            ),
        ),
        _ => Failure::new(error),
    }
}

/// Refuses early, with a useful message, a topic that is not there or a partition that it does not
/// have. Gives the number of partitions.
pub(crate) async fn check_partition(
    client: &Client,
    topic: &str,
    partition: Option<u32>,
) -> Result<u32, Failure> {
    let counted = client.partition_count(topic).await;
    let count = counted.map_err(|error| topic_failure(topic, &error))?;
    match partition {
        Some(partition) if partition >= count => Err(Failure::new(format_args!(
            "topic '{topic}' has no partition {partition}; it has partitions 0 to {}",
            count - 1
        ))),
        _ => Ok(count),
    }
}
