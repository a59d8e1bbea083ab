//! Consumer groups at the admin endpoint: what cores say of groups meets what others say of partitions.

use corelane_broker::runtime::serve;

use crate::admin::{metrics, series, state_when};
use crate::support::{Client, batch, config, partition, shut_down};

#[test]
fn groups_are_shown_with_how_far_they_are_behind() {
    const GROUPS: u32 = 12;
    let dir = tempfile::tempdir().expect("a directory");
    let mut limited = config(dir.path());
    limited.admin.partition_series_max = 30;
    let broker = serve(limited).unwrap_or_else(|error| panic!("{error}"));
    let mut client = Client::connect(broker.bootstrap());
    // On both cores, as the groups are.
    let topic = client.create_topic("orders", 4);
    for index in 0..4 {
        for _ in 0..=index {
            let ten = batch(&[b"x".as_slice(); 10]);
            client
                .produce(partition(&topic, index), &ten)
                .expect("a receipt");
        }
    }
    for group in 0..GROUPS {
        let name = format!("group-{group:02}");
        for index in 0..4 {
            client.commit(&name, partition(&topic, index), u64::from(group));
        }
    }
    let state = state_when(&broker, |state| {
        let offsets = state.groups.iter().map(|group| group.partitions.len());
        let loading = state.cores.iter().map(|core| core.groups.shards_loading);
        offsets.sum::<usize>() == 4 * GROUPS as usize && loading.sum::<u64>() == 0
    });
    let mut of_cores = [0; 2];
    for (number, group) in (0..).zip(&state.groups) {
        assert_eq!(group.name, format!("group-{number:02}"));
        assert_eq!((group.state.as_str(), group.members), ("empty", 0));
        of_cores[usize::from(group.core)] += 1;
        let lags: Vec<_> = group.partitions.iter().map(|it| it.lag).collect();
        let behind = |end: u64| Some(end.saturating_sub(number));
        assert_eq!(lags, [10, 20, 30, 40].map(behind), "{group:?}");
    }
    assert!(of_cores.iter().all(|count| *count > 0), "{of_cores:?}");
    for core in &state.cores {
        let groups = core.groups;
        assert_eq!(groups.groups, of_cores[usize::from(core.core)]);
        assert_eq!(groups.offsets, 4 * groups.groups);
        assert_eq!(groups.commits, groups.offsets);
        assert_eq!((groups.shards_loading, groups.shards_failed), (0, 0));
        assert!(groups.shards_serving > 0);
    }

    let series = series(&metrics(&broker, "*/*").body);
    let value = |name: &str| series[name] as u64;
    let lag = |group: &str, topic: &str| {
        value(&format!(
            "corelane_group_topic_lag{{group=\"{group}\",topic=\"{topic}\"}}"
        ))
    };
    assert_eq!(lag("group-00", "orders"), 100);
    assert_eq!(lag("group-11", "orders"), 9 + 19 + 29);
    let of_partitions = series
        .keys()
        .filter(|name| name.starts_with("corelane_group_lag{"));
    assert_eq!(of_partitions.count(), 30);
    assert_eq!(value("corelane_group_partitions_without_series"), 18);
    assert_eq!(value("corelane_groups_without_series"), 0);
    shut_down(broker);
}
