//! Watching long work: progress, messages, and a way to ask for its end.
//!
//! Algorithms know an [`Observer`] and nothing of terminals or signals. Whoever starts them decides what becomes of it.

/// What long work tells whoever started it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A task begins.
    Began {
        /// What it is, in words.
        task: &'a str,
        /// What is counted.
        unit: &'a str,
        /// How much there is to do, at most.
        total: u64,
        /// How much was done before.
        done: u64,
    },
    /// The task goes on.
    Progressed {
        /// How much is done.
        done: u64,
        /// What there is to say of it.
        message: &'a str,
    },
    /// The task is finished, or given up.
    Ended,
    /// A sentence for whoever watches.
    Note(&'a str),
}

/// Who watches long work, and may ask for its end.
pub trait Observer {
    /// Something happened.
    fn event(&self, event: Event);

    /// Whether the work should end: it saves what it can and returns an error that says so.
    fn cancelled(&self) -> bool {
        false
    }

    /// Says whether the work that follows looks at [`Observer::cancelled`] often and saves itself: until it does no longer, a request
    /// to end can wait for it.
    fn saves_itself(&self, _: bool) {}
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}

/// Progress of one task, told to an observer; ended when it is dropped.
pub struct Progress<'a> {
    observer: &'a dyn Observer,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl<'a> Progress<'a> {
    /// `total` units of work, of which `done` were done before.
    pub fn new(observer: &'a dyn Observer, task: &str, unit: &str, total: u64, done: u64) -> Self {
        observer.event(Event::Began { task, unit, total, done });
        Self { observer }
    }

    /// Work done so far, and what there is to say.
    pub fn set(&mut self, done: u64, message: impl AsRef<str>) {
        self.observer.event(Event::Progressed { done, message: message.as_ref() });
    }

    /// Ends the task.
    pub fn finish(self) {}
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.observer.event(Event::Ended);
    }
}

/// Work that saves itself, from here until this is dropped; see [`Observer::saves_itself`].
pub struct Saving<'a>(&'a dyn Observer);

impl<'a> Saving<'a> {
    /// From now on.
    pub fn new(observer: &'a dyn Observer) -> Self {
        observer.saves_itself(true);
        Self(observer)
    }
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.saves_itself(false);
    }
}
