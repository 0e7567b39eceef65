//! The connections of a worker.

use super::connection::Connection;
use super::id::ConnectionId;
use super::pool::Pool;
use crate::ring::kernel::Token;
use slab::Slab;

/// A worker's connections, and the memory that they share. How many there are is bounded by
/// [`Admission`](crate::server::shared::Admission), and for those beyond it by `refused_at_once`.
#[derive(Default)]
pub(super) struct Connections {
    slab: Slab<Slot>,
    generations: u32,
    refused: usize,
    pub pool: Pool,
}

/// A connection, and which user of its place it is.
struct Slot {
    generation: u32,
    connection: Connection,
}

impl Connections {
    pub fn insert(&mut self, connection: Connection) -> ConnectionId {
        self.generations = (self.generations + 1) % Token::GENERATIONS;
        self.refused += usize::from(connection.is_refused());
        let generation = self.generations;
        ConnectionId { index: self.slab.insert(Slot { generation, connection }) as u32, generation }
    }

    /// The connection, if it has not gone, and the memory for it.
    pub fn get(&mut self, id: ConnectionId) -> Option<(&mut Connection, &mut Pool)> {
        let slot = self.slab.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        Some((&mut slot.connection, &mut self.pool))
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        let connection = self.slab.remove(id.index as usize).connection;
        self.refused -= usize::from(connection.is_refused());
        Some(connection)
    }

    /// Connections that are told that they are one too many.
    pub fn refused(&self) -> usize {
        self.refused
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Those for which this holds.
    pub fn filter(&self, holds: impl Fn(&Connection) -> bool) -> Vec<ConnectionId> {
        let holds = |slot: &Slot| holds(&slot.connection);
        let matching = self.slab.iter().filter(|(_, slot)| holds(slot));
        matching.map(|(index, slot)| ConnectionId { index: index as u32, generation: slot.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::shared::Admission;

    #[test]
    fn an_id_reaches_its_own_connection_only() {
        let mut connections = Connections::default();
        let admission = Admission::new(10);
        let first = connections.insert(Connection::new(5, admission.admit()));
        assert_eq!(connections.get(first).map(|(connection, _)| connection.out.socket), Some(5));
        assert!(connections.remove(first).is_some() && connections.is_empty());
        let second = connections.insert(Connection::new(6, admission.admit()));
        assert_eq!(first.index, second.index, "the place is used again");
        assert!(connections.get(first).is_none() && connections.remove(first).is_none());
        assert_eq!(connections.get(second).map(|(connection, _)| connection.out.socket), Some(6));
    }

    #[test]
    fn those_who_are_one_too_many_are_counted() {
        let mut connections = Connections::default();
        let admission = Admission::new(1);
        let ids: Vec<ConnectionId> =
            (0..3).map(|fd| connections.insert(Connection::new(fd, admission.admit()))).collect();
        assert_eq!(connections.refused(), 2);
        ids.iter().for_each(|&id| drop(connections.remove(id)));
        assert_eq!((connections.refused(), admission.open()), (0, 0));
    }

    #[test]
    fn those_whose_time_is_up_are_found() {
        let mut connections = Connections::default();
        let ids: Vec<ConnectionId> = (0..4).map(|fd| connections.insert(Connection::new(fd, None))).collect();
        for (number, &id) in ids.iter().enumerate() {
            connections.get(id).unwrap().0.deadline = 10 * number as u64;
        }
        assert_eq!(connections.filter(|connection| connection.deadline <= 10), ids[..2]);
    }

    #[test]
    fn generations_wrap() {
        let mut connections = Connections { generations: Token::GENERATIONS - 1, ..Connections::default() };
        let id = connections.insert(Connection::new(1, None));
        assert_eq!(id.generation, 0);
        assert_eq!(ConnectionId::of(id.token(crate::ring::kernel::Kind::Wake)), id);
    }
}
