//! A broker with a damaged store serves the partitions of all others.

use std::path::{Path, PathBuf};

use corelane_protocol::frame::RequestFlags;
use corelane_protocol::request::{
    DeleteTopicsRequest, DescribeTopicsRequest, FetchEntry, FetchRequest, ListOffsetsEntry,
    ListOffsetsRequest, OffsetPosition, Request,
};
use corelane_protocol::response::{DescribedPartition, PartitionState, Response};
use corelane_protocol::{ApiError, ErrorCode, Offset, StoreId, TopicPartition};

use crate::support::{Client, batch, partition, shut_down, start};

const PARTITIONS: u32 = 4;
const STORE: StoreId = StoreId::new(1);

fn ask(client: &mut Client, request: &Request<'_>, check: impl FnOnce(Response<'_>)) {
    let (header, body) = client.call(request, RequestFlags::default());
    let response = Response::decode(&header, &body).expect("sound");
    check(response.expect("answered"));
}

fn describe(client: &mut Client) -> Vec<DescribedPartition> {
    let topics = Some(vec!["records".to_owned()]);
    let request = Request::DescribeTopics(DescribeTopicsRequest { topics });
    let mut partitions = Vec::new();
    ask(client, &request, |response| {
        let Response::DescribeTopics(mut described) = response else {
            panic!("{response:?}");
        };
        partitions = described
            .topics
            .remove(0)
            .result
            .expect("a topic")
            .partitions;
    });
    partitions
}

fn check_refusal(result: Option<ApiError>, file: &str) {
    let error = result.expect("its store is damaged");
    assert_eq!(error.code, ErrorCode::StorageFailed, "{error:?}");
    assert!(error.message.contains(file), "{error:?}");
}

fn check_refused(client: &mut Client, place: TopicPartition, file: &str) {
    check_refusal(client.produce(place, &batch(&[b"lost"])).err(), file);
    let fetch = Request::Fetch(FetchRequest {
        max_wait_ms: 30_000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        entries: vec![FetchEntry::new(place, Offset::new(1), 1 << 20)],
    });
    ask(client, &fetch, |response| {
        let Response::Fetch(mut fetched) = response else {
            panic!("{response:?}");
        };
        check_refusal(fetched.entries.remove(0).result.err(), file);
    });
    let list = Request::ListOffsets(ListOffsetsRequest {
        entries: vec![ListOffsetsEntry {
            partition: place,
            position: OffsetPosition::Latest,
        }],
    });
    ask(client, &list, |response| {
        let Response::ListOffsets(mut listed) = response else {
            panic!("{response:?}");
        };
        check_refusal(listed.entries.remove(0).result.err(), file);
    });
}

fn check_damaged(data_dir: &Path, file: &str, has_position: bool) {
    let broker = start(data_dir);
    // Every core answers, whether it has the damaged store or not.
    for (round, address) in (1..).zip(broker.cores()) {
        let mut client = Client::connect(*address);
        let topic = client.topic("records");
        let described = describe(&mut client);
        let unfit = described.iter().filter(|found| found.store == STORE);
        assert_eq!(unfit.count(), PARTITIONS as usize / 2);
        for (index, described) in (0..).zip(described) {
            let place = partition(&topic, index);
            if described.store == STORE {
                let PartitionState::Failed(why) = described.state else {
                    panic!("{file} is damaged");
                };
                assert!(why.contains(file), "{why}");
                assert!(!has_position || why.contains("at byte "), "{why}");
                check_refused(&mut client, place, file);
            } else {
                assert_eq!(described.state, PartitionState::Online);
                assert_eq!(client.read_all(place).len(), round);
                client.produce(place, &batch(&[b"more"])).expect("served");
            }
        }
    }
    let mut client = Client::connect(broker.bootstrap());
    let new = client.create_topic("new", 2);
    for index in 0..2 {
        let place = partition(&new, index);
        client.produce(place, &batch(&[b"new"])).expect("served");
    }
    shut_down(broker);
}

#[test]
fn a_damaged_store_costs_its_own_partitions_alone() {
    let flip = |path: &Path, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[20] ^= 1;
        std::fs::write(path, bytes).expect("a healthy disk");
    };
    let remove = |path: &Path, _: &[u8]| std::fs::remove_file(path).expect("it exists");
    type Damage<'a> = &'a dyn Fn(&Path, &[u8]);
    let cases: [(&str, Damage<'_>, bool); 3] = [
        ("catalogue", &flip, true),
        ("catalogue", &remove, false),
        ("journal-", &remove, false),
    ];
    for (prefix, damage, has_position) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = start(dir.path());
        let mut client = Client::connect(broker.bootstrap());
        let topic = client.create_topic("records", PARTITIONS);
        for index in 0..PARTITIONS {
            let place = partition(&topic, index);
            client.produce(place, &batch(&[b"one"])).expect("served");
        }
        shut_down(broker);

        let path = file_of_store(dir.path(), prefix);
        let name = path.strip_prefix(dir.path()).expect("within").to_owned();
        let name = name.to_str().expect("a plain name");
        let bytes = std::fs::read(&path).expect("it exists");
        damage(&path, &bytes);
        check_damaged(dir.path(), name, has_position);

        std::fs::write(&path, &bytes).expect("a healthy disk");
        let broker = start(dir.path());
        let mut client = Client::connect(broker.bootstrap());
        for (index, described) in (0..).zip(describe(&mut client)) {
            assert_eq!(described.state, PartitionState::Online);
            let kept = client.read_all(partition(&topic, index)).len();
            assert_eq!(kept, if described.store == STORE { 1 } else { 3 });
            let place = partition(&topic, index);
            client.produce(place, &batch(&[b"last"])).expect("served");
        }
        shut_down(broker);
    }
}

/// The store's files are put back although nobody hoped for it any more.
#[test]
fn a_topic_is_deleted_without_a_lost_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let old = client.create_topic("records", PARTITIONS);
    for index in 0..PARTITIONS {
        let place = partition(&old, index);
        client.produce(place, &batch(&[b"old"])).expect("served");
    }
    shut_down(broker);
    let path = file_of_store(dir.path(), "catalogue");
    let bytes = std::fs::read(&path).expect("it exists");
    std::fs::remove_file(&path).expect("it exists");

    let broker = start(dir.path());
    let mut client = Client::connect(broker.cores()[1]);
    let names = vec!["records".to_owned()];
    let delete = Request::DeleteTopics(DeleteTopicsRequest { names });
    ask(&mut client, &delete, |response| {
        let Response::DeleteTopics(mut deleted) = response else {
            panic!("{response:?}");
        };
        assert_eq!(deleted.topics.remove(0).result, Ok(old.id));
    });
    let new = client.create_topic("records", PARTITIONS);
    assert_ne!(new.id, old.id);
    for index in 0..PARTITIONS {
        let place = partition(&new, index);
        client.produce(place, &batch(&[b"new"])).expect("served");
        let gone = client.produce(partition(&old, index), &batch(&[b"old"]));
        assert_eq!(gone.expect_err("deleted").code, ErrorCode::UnknownTopic);
    }
    shut_down(broker);

    std::fs::write(&path, &bytes).expect("a healthy disk");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    for index in 0..PARTITIONS {
        let values = client.read_all(partition(&new, index));
        assert_eq!(values, [b"new".to_vec()]);
    }
    client.create_topic("more", PARTITIONS);
    shut_down(broker);
}

/// The first file of the store whose name begins like this.
fn file_of_store(data_dir: &Path, prefix: &str) -> PathBuf {
    let files = std::fs::read_dir(data_dir.join("store-0001")).expect("a store");
    let paths = files.map(|file| file.expect("a healthy disk").path());
    let mut found: Vec<_> = paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(prefix))
        })
        .collect();
    found.sort();
    found.swap_remove(0)
}
