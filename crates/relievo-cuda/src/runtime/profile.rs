//! Where the time of captured work goes: events in the graph before and after every operation.

use std::cell::RefCell;
use std::sync::Arc;

use super::time::Event;
use super::{Gpu, graph};
use crate::{Cost, Error, Pass, Result, Span};

thread_local! {
    /// The operations that this thread's profiler has marked so far.
    static MARKED: RefCell<Option<Vec<Marked>>> = const { RefCell::new(None) };
}

struct Marked {
    operation: &'static str,
    pass: Pass,
    cost: Cost,
    began: Arc<Event>,
    ended: Arc<Event>,
}

/// Takes the time of every operation in work that this thread captures while the profiler exists. Not for work on forked
/// streams: side by side, each operation takes longer.
pub struct Profiler {
    gpu: &'static Gpu,
}

impl Profiler {
    /// Begins to mark captured operations.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn new(ordinal: usize) -> Result<Self> {
        let gpu = Gpu::get(ordinal)?;
        MARKED.set(Some(Vec::new()));
        Ok(Self { gpu })
    }

    /// The times of the last replay's operations, in their order. Waits for the GPU.
    ///
    /// # Errors
    /// If the captured work was never replayed, or the GPU fails.
    pub fn spans(&self) -> Result<Vec<Span>> {
        self.gpu.synchronize()?;
        MARKED.with_borrow(|marked| {
            let span = |marked: &Marked| {
                let Marked { operation, pass, cost, began, ended } = marked;
                let seconds = began.seconds_until(ended, self.gpu)?;
                Ok(Span { operation, pass: *pass, cost: *cost, seconds })
            };
            marked.iter().flatten().map(span).collect()
        })
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        MARKED.set(None);
    }
}

/// Runs an operation of a GPU (`None`: of the CPU) between two marks, if it is captured and profiled. `cost` is called then
/// only.
///
/// # Errors
/// Those of the operation, or if the GPU fails.
pub fn marked<T, E: From<Error>>(
    ordinal: Option<usize>,
    operation: &'static str,
    pass: Pass,
    run: impl FnOnce() -> std::result::Result<T, E>,
    cost: impl FnOnce(&T) -> Cost,
) -> std::result::Result<T, E> {
    let ordinal = ordinal.filter(|ordinal| graph::captures(*ordinal));
    let Some(ordinal) = ordinal.filter(|_| MARKED.with_borrow(Option::is_some)) else { return run() };
    let gpu = Gpu::get(ordinal)?;
    let (began, ended) = (Arc::new(Event::new(gpu)?), Arc::new(Event::new(gpu)?));
    // Every replay records them.
    graph::keep_alive(&began);
    graph::keep_alive(&ended);
    began.record_in_graph(gpu)?;
    let done = run()?;
    ended.record_in_graph(gpu)?;
    let mark = Marked { operation, pass, cost: cost(&done), began, ended };
    MARKED.with_borrow_mut(|marked| marked.get_or_insert_default().push(mark));
    Ok(done)
}
