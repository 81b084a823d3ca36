//! A budget of memory: what connections keep at once because their clients have not read it, or have not sent the rest of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be kept at once. What is kept of a part of a budget is kept of the whole too.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    kept: AtomicUsize,
    whole: Option<Arc<Budget>>,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            kept: AtomicUsize::new(0),
            whole: None,
        }
    }

    /// At most so many bytes of another budget.
    pub fn part_of(whole: &Arc<Self>, most: usize) -> Self {
        Self {
            whole: Some(whole.clone()),
            ..Self::new(most)
        }
    }

    /// Bytes that are kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn keep(&self, bytes: usize) -> bool {
        let fits = |kept: usize| kept.checked_add(bytes).filter(|kept| *kept <= self.most);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.kept.fetch_update(set, fetch, fits).is_err() {
            return false;
        }
        if self.whole.as_ref().is_none_or(|whole| whole.keep(bytes)) {
            return true;
        }
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    fn keep_anyway(&self, bytes: usize) {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.keep_anyway(bytes);
        }
    }

    fn release(&self, bytes: usize) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.release(bytes);
        }
    }
}

/// What one holder keeps of a budget, until it is dropped.
#[derive(Debug)]
pub struct Kept {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Kept {
    /// Nothing, of this budget.
    pub fn nothing(budget: &Arc<Budget>) -> Self {
        Self {
            budget: budget.clone(),
            bytes: 0,
        }
    }

    /// So many bytes of a budget, if it has as many left.
    pub fn some(budget: &Arc<Budget>, bytes: usize) -> Option<Self> {
        let mut kept = Self::nothing(budget);
        kept.add(bytes).then_some(kept)
    }

    /// Keeps more, if the budget has as many bytes left.
    #[must_use]
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        let is_kept = self.budget.keep(bytes);
        if is_kept {
            self.bytes += bytes;
        }
        is_kept
    }

    /// Keeps more, also beyond the budget: for bytes that have no other place.
    pub(crate) fn add_anyway(&mut self, bytes: usize) {
        self.budget.keep_anyway(bytes);
        self.bytes += bytes;
    }

    /// Keeps less.
    pub(crate) fn remove(&mut self, bytes: usize) {
        let removed = bytes.min(self.bytes);
        self.budget.release(removed);
        self.bytes -= removed;
    }

    /// Keeps exactly so many bytes. To keep fewer always succeeds.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            return self.add(bytes - self.bytes);
        }
        if bytes < self.bytes {
            self.remove(self.bytes - bytes);
        }
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.release(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_is_bounded_by_itself_and_by_the_whole() {
        let whole = Arc::new(Budget::new(100));
        let parts = [60, 60].map(|most| Arc::new(Budget::part_of(&whole, most)));
        assert!(Kept::some(&parts[0], 61).is_none());
        let first = Kept::some(&parts[0], 60).expect("left");
        assert!(Kept::some(&parts[1], 50).is_none());
        let mut second = Kept::some(&parts[1], 40).expect("left");
        assert_eq!((whole.kept(), parts[1].kept()), (100, 40));
        assert!(!second.set(41) && second.set(10) && second.set(30));
        second.add_anyway(100);
        assert_eq!(whole.kept(), 190);
        drop((first, second));
        assert_eq!((whole.kept(), parts[0].kept(), parts[1].kept()), (0, 0, 0));
    }
}
