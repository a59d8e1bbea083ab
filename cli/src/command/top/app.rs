//! What the live view shows and how keys change it.
//!
//! Pure: events go in, `screen` draws what is here.

use std::collections::VecDeque;

use corelane_broker::admin::state::BrokerState;

use super::rates::{TopicRates, View, between};

/// Values of the past that are drawn.
pub(super) const HISTORY: usize = 240;

/// The order of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Traffic,
    Records,
    Size,
    Name,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Traffic => Self::Records,
            Self::Records => Self::Size,
            Self::Size => Self::Name,
            Self::Name => Self::Traffic,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Records => "records",
            Self::Size => "size",
            Self::Name => "name",
        }
    }
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    Enter,
    Back,
    Order,
    Pause,
}

/// Everything that the screen shows.
pub(super) struct App {
    pub(super) admin: String,
    pub(super) view: Option<View>,
    /// Why there is nothing new.
    pub(super) problem: Option<String>,
    pub(super) is_paused: bool,
    pub(super) order: Order,
    /// The topic that is selected, by name: its place changes.
    pub(super) selected: Option<String>,
    /// Whether its partitions are shown instead of the topics.
    pub(super) is_inside: bool,
    /// The partition that is selected there.
    pub(super) partition: usize,
    /// Bytes in and out per second of the past, the newest last.
    pub(super) bytes_in: VecDeque<f64>,
    pub(super) bytes_out: VecDeque<f64>,
    /// The traffic of each core in the past.
    pub(super) lanes: Vec<VecDeque<f64>>,
    last: Option<BrokerState>,
}

impl App {
    pub(super) fn new(admin: &str) -> Self {
        Self {
            admin: admin.to_owned(),
            view: None,
            problem: None,
            is_paused: false,
            order: Order::Traffic,
            selected: None,
            is_inside: false,
            partition: 0,
            bytes_in: VecDeque::new(),
            bytes_out: VecDeque::new(),
            lanes: Vec::new(),
            last: None,
        }
    }

    /// The state was fetched, or could not be.
    pub(super) fn take(&mut self, fetched: Result<BrokerState, String>) {
        let state = match fetched {
            Ok(state) => state,
            Err(problem) => {
                self.problem = Some(problem);
                return;
            }
        };
        self.problem = None;
        if self.is_paused {
            return;
        }
        let view = self.last.as_ref().and_then(|last| between(last, &state));
        // A state that was taken at the same moment says nothing new.
        let is_same = self.last.as_ref().is_some_and(|last| {
            (last.started_ms, last.taken_us) == (state.started_ms, state.taken_us)
        });
        if !is_same {
            self.last = Some(state);
        }
        let Some(mut view) = view else { return };
        push(&mut self.bytes_in, view.total.bytes_in);
        push(&mut self.bytes_out, view.total.bytes_out);
        self.lanes.resize(view.cores.len(), VecDeque::new());
        for (lane, core) in self.lanes.iter_mut().zip(&view.cores) {
            push(lane, core.bytes_in + core.bytes_out);
        }
        sort(&mut view.topics, self.order);
        self.view = Some(view);
        self.keep_selection();
    }

    /// Whether the view goes on.
    pub(super) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return false,
            Key::Up => self.step(-1),
            Key::Down => self.step(1),
            Key::PageUp => self.step(-10),
            Key::PageDown => self.step(10),
            Key::Enter => {
                self.is_inside = self.selected_topic().is_some();
                self.partition = 0;
            }
            Key::Back => self.is_inside = false,
            Key::Order => {
                self.order = self.order.next();
                if let Some(view) = &mut self.view {
                    sort(&mut view.topics, self.order);
                }
            }
            Key::Pause => {
                self.is_paused = !self.is_paused;
                // What was missed is no interval of what is shown next.
                self.last = None;
            }
        }
        true
    }

    pub(super) fn topics(&self) -> &[TopicRates] {
        self.view.as_ref().map_or(&[], |view| &view.topics)
    }

    /// The place of the topic that is selected.
    pub(super) fn selected_index(&self) -> Option<usize> {
        let name = self.selected.as_ref()?;
        self.topics().iter().position(|topic| topic.name == *name)
    }

    pub(super) fn selected_topic(&self) -> Option<&TopicRates> {
        self.selected_index().map(|index| &self.topics()[index])
    }

    fn step(&mut self, by: isize) {
        if self.is_inside {
            let count = self
                .selected_topic()
                .map_or(0, |topic| topic.partitions.len());
            self.partition = moved(self.partition, by, count);
            return;
        }
        let from = self.selected_index().unwrap_or(0);
        let to = moved(from, by, self.topics().len());
        self.selected = self.topics().get(to).map(|topic| topic.name.clone());
    }

    /// A topic that is gone is not selected any more; without one the first is.
    fn keep_selection(&mut self) {
        if self.selected_index().is_none() {
            self.is_inside = false;
            self.selected = self.topics().first().map(|topic| topic.name.clone());
        }
        let count = self
            .selected_topic()
            .map_or(0, |topic| topic.partitions.len());
        self.partition = moved(self.partition, 0, count);
    }
}

fn push(history: &mut VecDeque<f64>, value: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(value);
}

fn moved(from: usize, by: isize, count: usize) -> usize {
    from.saturating_add_signed(by).min(count.saturating_sub(1))
}

fn sort(topics: &mut [TopicRates], order: Order) {
    topics.sort_by(|one, other| {
        let by_order = match order {
            Order::Traffic => other.traffic().total_cmp(&one.traffic()),
            Order::Records => {
                let records = |topic: &TopicRates| topic.records_in + topic.records_out;
                records(other).total_cmp(&records(one))
            }
            Order::Size => other.size_bytes.cmp(&one.size_bytes),
            Order::Name => std::cmp::Ordering::Equal,
        };
        by_order.then_with(|| one.name.cmp(&other.name))
    });
}

#[cfg(test)]
mod tests {
    use super::super::rates::tests::state;
    use super::*;

    fn app() -> App {
        let mut app = App::new("127.0.0.1:9600");
        app.take(Ok(state(10)));
        app.take(Ok(state(11)));
        app
    }

    fn names(app: &App) -> Vec<&str> {
        app.topics()
            .iter()
            .map(|topic| topic.name.as_str())
            .collect()
    }

    #[test]
    fn topics_are_ordered_by_traffic_and_then_as_is_wished() {
        let mut app = app();
        assert_eq!(names(&app), ["payments", "orders"]);
        for order in [Order::Records, Order::Size, Order::Name, Order::Traffic] {
            assert!(app.press(Key::Order));
            assert_eq!(app.order, order);
        }
        app.order = Order::Size;
        app.press(Key::Order);
        assert_eq!(names(&app), ["orders", "payments"]);
    }

    #[test]
    fn a_topic_stays_selected_wherever_it_goes() {
        let mut app = app();
        assert_eq!(app.selected.as_deref(), Some("payments"));
        app.press(Key::Down);
        app.press(Key::Down);
        assert_eq!(app.selected.as_deref(), Some("orders"));
        app.press(Key::Enter);
        app.press(Key::PageDown);
        assert_eq!((app.is_inside, app.partition), (true, 3));
        let mut without = state(12);
        without.topics.remove(0);
        app.take(Ok(without));
        assert_eq!(
            (app.is_inside, app.selected.as_deref()),
            (false, Some("payments"))
        );
        assert!(!app.press(Key::Quit));
    }

    #[test]
    fn a_pause_keeps_what_is_shown_and_is_no_interval_afterwards() {
        let mut app = app();
        let shown = app.view.clone();
        app.press(Key::Pause);
        app.take(Ok(state(50)));
        assert_eq!(app.view, shown);
        app.press(Key::Pause);
        app.take(Ok(state(60)));
        assert_eq!(app.view, shown);
        app.take(Ok(state(61)));
        let view = app.view.expect("two states");
        assert_eq!((view.uptime_us, view.interval_us), (61_000_000, 1_000_000));
    }

    #[test]
    fn a_broker_that_is_gone_is_said_and_what_it_was_stays() {
        let mut app = app();
        app.take(Err("connection refused".to_owned()));
        assert!(app.view.is_some() && app.problem.is_some());
        app.take(Ok(state(12)));
        assert_eq!(app.problem, None);
        assert_eq!(app.bytes_in.len(), 2);
    }
}
