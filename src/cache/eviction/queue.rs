//! A first-in, first-out queue of tags from which any one can be removed: a doubly linked list in a vector, whose index is
//! the tag's place. No hit ever moves anything in it.

use super::Tag;
use super::parking::INDEX;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// An index that is none.
pub(super) const END: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    tag: Option<Arc<Tag>>,
    /// Towards the newest; for a free node, the next free one.
    newer: u32,
    /// Towards the oldest.
    older: u32,
}

#[derive(Debug)]
pub(super) struct Queue {
    nodes: Vec<Node>,
    free: u32,
    newest: u32,
    oldest: u32,
    /// Put into every tag's place, beside the index.
    mark: u32,
}

impl Queue {
    /// `mark`: bits outside [`INDEX`] that every queued tag's place shall have.
    pub(super) fn marked(mark: u32) -> Queue {
        Queue { nodes: Vec::new(), free: END, newest: END, oldest: END, mark }
    }

    pub(super) fn oldest(&self) -> u32 {
        self.oldest
    }

    /// The next newer one, or [`END`].
    pub(super) fn newer(&self, index: u32) -> u32 {
        self.nodes[index as usize].newer
    }

    /// The tag at an index that is in use.
    pub(super) fn tag(&self, index: u32) -> &Arc<Tag> {
        self.nodes[index as usize].tag.as_ref().expect("an index in use")
    }

    /// Puts the tag at the newest end.
    pub(super) fn push(&mut self, tag: Arc<Tag>) {
        self.link(tag, self.newest, END);
    }

    /// Puts the tag at the oldest end.
    pub(super) fn push_oldest(&mut self, tag: Arc<Tag>) {
        self.link(tag, END, self.oldest);
    }

    fn link(&mut self, tag: Arc<Tag>, older: u32, newer: u32) {
        let index = if self.free == END { self.nodes.len() as u32 } else { self.free };
        tag.place.store(self.mark | index, Relaxed);
        let node = Node { tag: Some(tag), newer, older };
        match self.nodes.get_mut(index as usize) {
            Some(free) => {
                self.free = free.newer;
                *free = node;
            }
            None => self.nodes.push(node),
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

    /// Takes the tag out whose place is `place`.
    pub(super) fn remove(&mut self, place: u32) -> Arc<Tag> {
        let index = place & INDEX;
        let node = &mut self.nodes[index as usize];
        let (newer, older) = (node.newer, node.older);
        let tag = node.tag.take().expect("a place in use");
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
        tag.place.store(super::NOWHERE, Relaxed);
        tag
    }
}
