//! What keeps a broker from starting, and that it says so.

use std::net::TcpListener;

use corelane_broker::config::CoreSelection;
use corelane_broker::runtime::{StartError, serve};

use crate::support::{Client, config, shut_down, start};

#[test]
fn a_directory_is_used_by_one_broker_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let refused = serve(config(dir.path())).err().expect("it is in use");
    assert!(matches!(refused, StartError::Locked { .. }), "{refused}");
    Client::connect(broker.bootstrap()).metadata();
    shut_down(broker);
    shut_down(start(dir.path()));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = config(dir.path());
    config.server.listen = taken.local_addr().expect("bound");
    let refused = serve(config).err().expect("the port is taken");
    assert!(
        refused.to_string().contains("cannot listen on 127.0.0.1:"),
        "{refused}"
    );
}

#[test]
fn the_number_of_stores_is_fixed() {
    let dir = tempfile::tempdir().expect("a directory");
    shut_down(start(dir.path()));
    let mut config = config(dir.path());
    config.server.stores = 5;
    let refused = serve(config).err().expect("there are two");
    assert!(refused.to_string().contains("has 2 stores"), "{refused}");
    shut_down(start(dir.path()));
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.server.cores = CoreSelection::List(vec![60_000]);
    let refused = serve(config).err().expect("there is no such CPU");
    assert!(refused.to_string().contains("CPU 60000"), "{refused}");
}

#[test]
fn damage_to_shared_files_is_named_with_its_place() {
    for (file, word) in [
        ("corelane.dir", "corelane.dir"),
        ("metadata/log", "metadata/log"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = start(dir.path());
        Client::connect(broker.bootstrap()).create_topic("records", 3);
        shut_down(broker);
        let path = dir.path().join(file);
        let mut bytes = std::fs::read(&path).expect("it exists");
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).expect("a healthy disk");
        let refused = serve(config(dir.path())).err().expect("it is damaged");
        let text = refused.to_string();
        assert!(text.contains(word) && text.contains("byte"), "{text}");
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).expect("a healthy disk");
        shut_down(start(dir.path()));
        std::fs::remove_file(&path).expect("it exists");
        let refused = serve(config(dir.path())).err().expect("it is missing");
        assert!(refused.to_string().contains(word), "{refused}");
    }
}

#[test]
fn connections_end_with_the_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    for is_orderly in [true, false] {
        let broker = start(dir.path());
        let mut client = Client::connect(broker.bootstrap());
        client.metadata();
        if is_orderly {
            shut_down(broker);
        } else {
            drop(broker);
        }
        assert!(client.try_receive().is_err(), "the connection is closed");
    }
}
