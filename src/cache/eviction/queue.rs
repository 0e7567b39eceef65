//! A first-in, first-out queue of objects from which any one can be removed: a doubly linked list in a vector, whose
//! index is the object's place. No hit ever moves anything in it.

use super::parking::INDEX;
use super::{Object, push};
use crate::sync::atomic::Ordering::Relaxed;

/// An index that is none.
pub(super) const END: u32 = u32::MAX;

#[derive(Debug)]
struct Node<T> {
    object: Option<T>,
    /// Towards the newest; for a free node, the next free one.
    newer: u32,
    /// Towards the oldest.
    older: u32,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    nodes: Vec<Node<T>>,
    free: u32,
    newest: u32,
    oldest: u32,
    /// Put into every object's place, beside the index.
    mark: u32,
}

impl<T: Object> Queue<T> {
    /// `mark`: bits outside [`INDEX`] that every queued object's place shall have.
    pub(super) fn marked(mark: u32) -> Queue<T> {
        Queue { nodes: Vec::new(), free: END, newest: END, oldest: END, mark }
    }

    pub(super) fn oldest(&self) -> u32 {
        self.oldest
    }

    /// The next newer one, or [`END`].
    pub(super) fn newer(&self, index: u32) -> u32 {
        self.nodes[index as usize].newer
    }

    /// The object at an index that is in use.
    pub(super) fn object(&self, index: u32) -> &T {
        self.nodes[index as usize].object.as_ref().expect("an index in use")
    }

    /// Puts the object at the newest end.
    pub(super) fn push(&mut self, object: T) {
        self.link(object, self.newest, END);
    }

    /// Puts the object at the oldest end.
    pub(super) fn push_oldest(&mut self, object: T) {
        self.link(object, END, self.oldest);
    }

    fn link(&mut self, object: T, older: u32, newer: u32) {
        let index = if self.free == END { self.nodes.len() as u32 } else { self.free };
        object.tag().place.store(self.mark | index, Relaxed);
        let node = Node { object: Some(object), newer, older };
        match self.nodes.get_mut(index as usize) {
            Some(free) => {
                self.free = free.newer;
                *free = node;
            }
            None => push(&mut self.nodes, node),
        }
        match self.nodes.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = index,
            None => self.oldest = index,
        }
        match self.nodes.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = index,
            None => self.newest = index,
        }
    }

    /// Takes the object out whose place is `place`.
    pub(super) fn remove(&mut self, place: u32) -> T {
        let index = place & INDEX;
        let node = &mut self.nodes[index as usize];
        let (newer, older) = (node.newer, node.older);
        let object = node.object.take().expect("a place in use");
        node.newer = self.free;
        self.free = index;
        match self.nodes.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = newer,
            None => self.oldest = newer,
        }
        object.tag().place.store(super::NOWHERE, Relaxed);
        object
    }
}
