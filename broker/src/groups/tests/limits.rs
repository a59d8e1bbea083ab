//! What would exceed a limit is refused, with the setting's name.

use super::*;

fn refusal(result: Result<HeartbeatAnswer, ApiError>) -> String {
    let error = result.expect_err("it is too much");
    assert_eq!(error.code, ErrorCode::GroupLimit);
    error.message
}

#[test]
fn a_group_has_so_many_members() {
    let mut bench = Bench::with(Settings {
        group_members_max: 2,
        ..Settings::default()
    });
    bench.topics.create("orders", 1);
    let mut clients: Vec<_> = (1..=3)
        .map(|n| Client::new(n, wants(&["orders"])))
        .collect();
    bench.beat(&mut clients[0]);
    bench.beat(&mut clients[1]);
    assert!(refusal(bench.send(&clients[2].request())).contains("groups.members_max"));
    bench.beat(&mut clients[0]);
    bench.leave(&clients[1], false).expect("it is a member");
    bench.beat(&mut clients[2]);
}

#[test]
fn a_coordinator_has_so_much_memory() {
    let mut bench = Bench::with(Settings {
        memory_bytes_max: 28_000,
        ..Settings::default()
    });
    let topic = bench.topics.create("orders", 150);
    bench.topics.create("many", 1_000);
    let mut a = Client::new(1, wants(&["orders"]));
    let too_much = Client::new(2, wants(&["many"]));
    assert!(refusal(bench.send(&too_much.request())).contains("groups.memory_bytes_max"));
    assert_eq!(bench.coordinator.group_count(), 0);
    bench.beat(&mut a);
    let mut request = a.request();
    request.subscription = Some(wants(&["orders", "many"]));
    assert!(refusal(bench.send(&request)).contains("groups.memory_bytes_max"));
    bench.beat(&mut a);
    let all: Vec<_> = (0..150).map(|n| (at(topic, n), 1)).collect();
    assert_eq!(code(bench.commit(Some(a.me), &all)), ErrorCode::GroupLimit);
    assert_eq!(bench.committed(at(topic, 0)), None, "all or nothing");
    bench
        .commit(Some(a.me), &all[..5])
        .expect("there is room for some");
    bench
        .commit(Some(a.me), &all[..5])
        .expect("what is there is overwritten");
    let mut joined = 0;
    for n in 10..60 {
        match bench.send(&Client::new(n, wants(&["orders"])).request()) {
            Ok(_) => joined += 1,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::GroupLimit);
                break;
            }
        }
    }
    assert!((1..49).contains(&joined), "{joined} have joined");
    assert!(bench.coordinator.memory_bytes() <= 28_000);
    bench.beat(&mut a);
}
