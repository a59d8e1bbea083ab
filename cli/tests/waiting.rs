//! A command that has to wait says so, and one that is interrupted says how far it came.

mod support;

use std::io::Write;

use support::TestBroker;
use support::running::{await_line, lines, signal, spawn};

#[test]
fn the_loss_of_the_broker_and_its_return_are_said() {
    let mut broker = TestBroker::start();
    broker.create("t", 2);
    let mut producer = spawn(&broker, &["produce", "t", "--receipts"]);
    let mut input = producer.0.stdin.take().expect("it is piped");
    let receipts = lines(producer.0.stdout.take().expect("it is piped"));
    let said = lines(producer.0.stderr.take().expect("it is piped"));
    let mut consumer = spawn(&broker, &["consume", "t", "--max", "2"]);
    let consumer_said = lines(consumer.0.stderr.take().expect("it is piped"));

    writeln!(input, "one").expect("it reads");
    await_line(&receipts, "1 ");
    broker.kill();
    writeln!(input, "two").expect("it reads");
    let lost = await_line(&said, "lost the broker ");
    assert!(lost.ends_with("; trying again (up to 120 s)"), "{lost}");
    let lost = await_line(&consumer_said, "lost the broker ");
    assert!(
        lost.ends_with("; trying again (until it is back)"),
        "{lost}"
    );
    await_line(&said, "waiting: 1 line not acknowledged for 5 s");
    broker.restart();
    await_line(&said, "connected again, to ");
    await_line(&consumer_said, "connected again, to ");
    await_line(&receipts, "2 ");
    drop(input);
    assert!(producer.0.wait().expect("it ends").success());
    assert!(consumer.0.wait().expect("it ends").success());
}

#[test]
fn an_interrupted_produce_says_how_far_it_came() {
    let mut broker = TestBroker::start();
    broker.create("t", 1);
    for (lines_lost, name, code) in [(0, "INT", 130), (2, "TERM", 143)] {
        let mut producer = spawn(&broker, &["produce", "t", "--receipts"]);
        let mut input = producer.0.stdin.take().expect("it is piped");
        let receipts = lines(producer.0.stdout.take().expect("it is piped"));
        let said = lines(producer.0.stderr.take().expect("it is piped"));
        writeln!(input, "one").expect("it reads");
        await_line(&receipts, "1 ");
        if lines_lost > 0 {
            broker.kill();
            write!(input, "two\nthree\n").expect("it reads");
            // By then both are under way.
            await_line(&said, "waiting: 2 lines");
        }
        signal(&producer, name);
        let sentence = await_line(&said, "interrupted: ");
        let expected = format!("interrupted: 1 acknowledged, {lines_lost} of unknown fate");
        assert!(sentence.starts_with(&expected), "{sentence}");
        assert_eq!(producer.0.wait().expect("it ends").code(), Some(code));
    }
}

#[test]
fn a_consumer_says_which_of_the_lines_that_it_printed_are_gone() {
    let mut broker = TestBroker::start();
    let weak = ["--partitions", "1", "--config", "flush.messages=1000"];
    broker.succeed(&[&["topic", "create", "weak"][..], &weak].concat());
    broker.feed(&["produce", "weak"], "0\n").assert_code(0);
    // This one is flushed by the orderly end.
    broker.stop();
    broker.restart();
    broker
        .feed(&["produce", "weak"], "1\n2\n3\n")
        .assert_code(0);
    let mut consumer = spawn(&broker, &["consume", "weak", "--print", "%o %v\\n"]);
    let printed = lines(consumer.0.stdout.take().expect("it is piped"));
    let said = lines(consumer.0.stderr.take().expect("it is piped"));
    await_line(&printed, "3 3");
    broker.kill();
    broker.restart();
    broker.feed(&["produce", "weak"], "new\n").assert_code(0);
    let warning = await_line(&said, "warning: ");
    let expected = "warning: records 1 to 3 of weak-0 were read and are gone";
    assert!(warning.starts_with(expected), "{warning}");
    await_line(&printed, "1 new");
    consumer.kill();
    let log = broker.log();
    assert!(
        log.contains("weak-0 was not closed in order: records that were acknowledged from memory may be lost, from offset 1 on"),
        "{log}"
    );
    let described = broker.succeed(&["topic", "describe", "weak"]);
    assert!(
        described.contains("partition 0: epoch 1 began at offset 1"),
        "{described}"
    );
}
