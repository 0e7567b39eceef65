//! Deadlines: how long each thing that a connection waits for may take.

use super::connection::Patience;
use super::serving::Serving;
use crate::limits;
use crate::metrics::labels::Timeout;
use crate::planted::{self, Defect};
use crate::ring::kernel::Kernel;
use std::io;
use std::time::Duration;

impl<K: Kernel> Serving<'_, K> {
    /// Sets the deadline of what is waited for now. A wait that goes on keeps its own: what the peer sends meanwhile
    /// buys it no time.
    pub fn renew_deadline(&mut self) {
        let connection = &mut *self.connection;
        let patience = connection.waits_for();
        let options = &self.io.shared.options;
        let time = match patience {
            Patience::Head | Patience::Send | Patience::Linger if connection.patience == patience => return,
            Patience::Idle if planted::is(Defect::IdleWithoutEnd) => Duration::MAX,
            Patience::Idle => options.idle_timeout,
            Patience::Head => options.header_timeout,
            Patience::Send => options.send_timeout,
            Patience::Linger => limits::LINGER,
            Patience::Endless => {
                (connection.patience, connection.deadline) = (patience, u64::MAX);
                return;
            }
        };
        connection.patience = patience;
        connection.deadline = self.io.now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if patience == Patience::Send {
            connection.progress = u64::MAX;
        }
    }

    /// The deadline has passed.
    pub fn out_of_patience(&mut self) -> io::Result<()> {
        let patience = self.connection.patience;
        if patience != self.connection.waits_for() && !planted::is(Defect::StaleDeadline) {
            // What the deadline was set for has come to pass meanwhile.
            self.renew_deadline();
            return Ok(());
        }
        let timeout = match patience {
            Patience::Endless => return Ok(()),
            Patience::Linger => return self.close(),
            Patience::Idle => Timeout::Idle,
            Patience::Head => Timeout::Head,
            Patience::Send => {
                let connection = &mut *self.connection;
                let taken = self.io.kernel.progress(connection.out.socket);
                let has_moved = std::mem::replace(&mut connection.progress, taken) != taken;
                if has_moved || planted::is(Defect::SendWithoutEnd) {
                    // The peer reads, slowly; or this is the first look.
                    connection.deadline =
                        self.io.now.saturating_add(self.io.shared.options.send_timeout.as_nanos() as u64);
                    return Ok(());
                }
                Timeout::Send
            }
        };
        self.io.metrics.timeouts[timeout].one();
        if timeout == Timeout::Head { self.time_out_head() } else { self.close() }
    }
}
