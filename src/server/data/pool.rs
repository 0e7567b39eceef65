//! Memory that connections need only while they are active: idle ones hold none of it, and it is used again.

use super::deliver::batch::Batch;
use super::deliver::buffer::Buffer;
use super::deliver::zero::ZeroSend;
use super::id::ConnectionId;
use super::ledger::Ledger;
use crate::limits;
use crate::ring::lent::Lent;
use slab::Slab;

/// Memory of connections that fell idle, and what outlives its connection.
#[derive(Default)]
pub(super) struct Pool {
    batches: Vec<Lent<Batch>>,
    received: Vec<Vec<u8>>,
    ledgers: Vec<Ledger>,
    buffers: Vec<Lent<Buffer>>,
    zero_sends: Slab<(ConnectionId, Lent<ZeroSend>)>,
}

impl Pool {
    pub fn batch(&mut self) -> Lent<Batch> {
        self.batches.pop().unwrap_or_else(|| Lent::new(Batch::default()))
    }

    pub fn received(&mut self) -> Vec<u8> {
        self.received.pop().unwrap_or_default()
    }

    pub fn ledger(&mut self) -> Ledger {
        self.ledgers.pop().unwrap_or_default()
    }

    pub fn buffer(&mut self) -> Lent<Buffer> {
        self.buffers.pop().unwrap_or_else(|| Buffer::new(limits::STREAM_BUFFER_BYTES))
    }

    pub fn keep_batch(&mut self, batch: Option<Lent<Batch>>) {
        if let Some(mut batch) = batch
            && !batch.is_lent()
            && self.batches.len() < limits::SPARES
        {
            batch.get_mut().clear();
            self.batches.push(batch);
        }
    }

    pub fn keep_received(&mut self, mut received: Vec<u8>) {
        let useful = (1..=limits::SPARE_TEXT_BYTES).contains(&received.capacity());
        if useful && self.received.len() < limits::SPARES {
            received.clear();
            self.received.push(received);
        }
    }

    pub fn keep_ledger(&mut self, ledger: Ledger) {
        if self.ledgers.len() < limits::SPARES {
            self.ledgers.push(ledger);
        }
    }

    pub fn keep_buffer(&mut self, buffer: Option<Lent<Buffer>>) {
        if let Some(buffer) = buffer
            && !buffer.is_lent()
            && self.buffers.len() < limits::SPARE_BUFFERS
        {
            self.buffers.push(buffer);
        }
    }

    /// Keeps the bytes of a zero-copy send of this connection until the kernel has done with them; returns the key to
    /// submit it by.
    pub fn begin_zero_send(&mut self, id: ConnectionId, send: Lent<ZeroSend>) -> u32 {
        self.zero_sends.insert((id, send)) as u32
    }

    /// Whose send it is. With its last completion, `is_over`, its bytes are given back.
    pub fn zero_send(&mut self, key: u32, is_over: bool) -> Option<ConnectionId> {
        let (id, send) = self.zero_sends.get_mut(key as usize)?;
        let id = *id;
        if is_over {
            send.returned();
            self.zero_sends.remove(key as usize);
        }
        Some(id)
    }

    /// No zero-copy send is under way.
    #[cfg(any(test, feature = "simulation"))]
    pub fn has_all_back(&self) -> bool {
        self.zero_sends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::{cache, cached};

    #[test]
    fn idle_memory_is_bounded() {
        let mut pool = Pool::default();
        for _ in 0..2 * limits::SPARES {
            pool.keep_batch(Some(Lent::new(Batch::default())));
            pool.keep_received(Vec::with_capacity(10));
            pool.keep_ledger(Ledger::default());
            pool.keep_buffer(Some(Buffer::new(1)));
        }
        pool.keep_received(Vec::with_capacity(limits::SPARE_TEXT_BYTES + 1));
        assert_eq!(
            (pool.batches.len(), pool.received.len(), pool.ledgers.len()),
            (limits::SPARES, limits::SPARES, limits::SPARES)
        );
        assert_eq!(pool.buffers.len(), limits::SPARE_BUFFERS);
        assert!(pool.received.iter().all(|received| received.capacity() <= limits::SPARE_TEXT_BYTES));
    }

    #[test]
    fn bytes_stay_leased_until_the_last_completion() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = cache();
        let mut pool = Pool::default();
        let mut send = ZeroSend::new(cached(&cache, directory.path(), b"a", 5000));
        ZeroSend::lend(&mut send, 0, 5000);
        let id = ConnectionId { index: 3, generation: 4 };
        let key = pool.begin_zero_send(id, send);
        assert_eq!(pool.zero_send(key, false), Some(id));
        assert_eq!(cache.snapshot(1).leased_bytes, 5000);
        assert_eq!(pool.zero_send(key, true), Some(id));
        assert_eq!((cache.snapshot(1).leased_bytes, pool.zero_send(key, true)), (0, None));
        assert!(pool.has_all_back());
    }
}
