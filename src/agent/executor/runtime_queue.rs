//! Requests for one runtime run one after the other, in the order they came; different runtimes side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use warden_protocol::Runtime;

#[derive(Debug, Default)]
pub struct Order {
    lines: Mutex<HashMap<Runtime, VecDeque<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    request: u64,
    /// Absent once it was told that it is first.
    first: Option<oneshot::Sender<()>>,
}

/// A place in the line of a runtime. Dropping it leaves the line, wherever in it that is.
#[derive(Debug)]
pub struct Place {
    order: Arc<Order>,
    runtime: Runtime,
    request: u64,
    first: Option<oneshot::Receiver<()>>,
}

impl Order {
    pub fn enter(self: &Arc<Order>, runtime: Runtime, request: u64) -> Place {
        let (sender, receiver) = oneshot::channel();
        let mut lines = self.lines();
        let line = lines.entry(runtime.clone()).or_default();
        line.push_back(Waiting { request, first: Some(sender) });
        tell_first(line);
        Place { order: self.clone(), runtime, request, first: Some(receiver) }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Runtime, VecDeque<Waiting>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until nobody is before it.
    pub async fn first(&mut self) {
        if let Some(first) = &mut self.first {
            let _ = first.await;
            self.first = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.order.lines();
        if let Some(line) = lines.get_mut(&self.runtime) {
            line.retain(|waiting| waiting.request != self.request);
            tell_first(line);
            if line.is_empty() {
                lines.remove(&self.runtime);
            }
        }
    }
}

fn tell_first(line: &mut VecDeque<Waiting>) {
    if let Some(first) = line.front_mut().and_then(|waiting| waiting.first.take()) {
        let _ = first.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_first(place: &mut Place) -> bool {
        place.first.as_mut().is_none_or(|first| first.try_recv().is_ok())
    }

    #[test]
    fn one_runtime_is_a_line_and_another_is_another() {
        let order = Arc::new(Order::default());
        let mut one = order.enter(Runtime::Iggy, 1);
        let two = order.enter(Runtime::Iggy, 2);
        let mut three = order.enter(Runtime::Iggy, 3);
        let mut other = order.enter(Runtime::Connectors, 4);
        assert!(is_first(&mut one) && is_first(&mut other));
        drop(two);
        assert!(!is_first(&mut three));
        drop(one);
        assert!(is_first(&mut three));
        drop((three, other));
        assert!(order.lines().is_empty());
    }
}
