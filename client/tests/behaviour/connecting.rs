//! Connecting, and brokers that are not what they should be.

use std::time::Duration;

use corelane_client::{Client, ConnectionEvent, Error, ErrorKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::FakeBroker;

#[tokio::test]
async fn an_address_where_nobody_listens_is_an_error_that_names_it() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let error = Client::connect(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn the_next_bootstrap_address_is_tried() {
    let broker = FakeBroker::start(1).await;
    let client = Client::builder()
        .bootstrap(["127.0.0.1:1".to_owned(), broker.address()])
        .connect()
        .await
        .unwrap();
    assert_eq!(client.broker_version().await.unwrap(), "fake");
}

#[tokio::test]
async fn a_silent_broker_is_given_up_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let builder = Client::builder()
        .bootstrap([address])
        .connect_timeout(Duration::from_millis(100));
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[b'x'; 100]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
    });
    let error = Client::connect(address).await.unwrap_err();
    assert!(error.to_string().contains("malformed"), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let none: [&str; 0] = [];
    let refused = [
        Client::builder().bootstrap(none).connect().await,
        Client::builder().bootstrap(["no-port"]).connect().await,
        Client::builder()
            .request_timeout(Duration::ZERO)
            .connect()
            .await,
        Client::builder()
            .retry_backoff(Duration::from_secs(2), Duration::from_secs(1))
            .connect()
            .await,
    ];
    for result in refused {
        assert!(
            matches!(result, Err(Error::InvalidArgument(_))),
            "{result:?}"
        );
    }
    let broker = FakeBroker::start(1).await;
    let client = broker.client().await;
    let refused = [
        client.producer().batch_bytes(1).build().await,
        client.producer().buffer_bytes(10).build().await,
        client.producer().in_flight_bytes(0).build().await,
        client
            .producer()
            .delivery_timeout(Duration::ZERO)
            .build()
            .await,
    ];
    for result in refused {
        assert!(
            matches!(result, Err(Error::InvalidArgument(_))),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn a_lost_control_connection_is_made_again() {
    let broker = FakeBroker::with_topic(1, 2).await;
    let client = broker.client().await;
    assert_eq!(client.partition_count("t").await.unwrap(), 2);
    broker.hang_up(false);
    assert_eq!(client.partition_count("t").await.unwrap(), 2);
}

#[tokio::test]
async fn what_becomes_of_connections_is_told() {
    let broker = FakeBroker::start(1).await;
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let builder = broker.builder().on_connection_event(move |event| {
        let word = match event {
            ConnectionEvent::Connected { .. } => "connected",
            ConnectionEvent::Lost { .. } => "lost",
            ConnectionEvent::Failed { .. } => "failed",
            _ => "another",
        };
        // The last event comes when the test has ended.
        let _ = sender.send(word);
    });
    let client = builder.connect().await.unwrap();
    assert_eq!(told.recv().await, Some("connected"));
    broker.hang_up(true);
    assert_eq!(told.recv().await, Some("lost"));
    let asked = tokio::spawn(async move { client.admin().list_topics().await.map(drop) });
    assert_eq!(told.recv().await, Some("failed"));
    broker.hang_up(false);
    asked.await.unwrap().unwrap();
    let mut last = "";
    while let Ok(word) = told.try_recv() {
        last = word;
    }
    // The client and with it the connection has gone, on purpose: that is no loss.
    assert_eq!(last, "connected");
}
