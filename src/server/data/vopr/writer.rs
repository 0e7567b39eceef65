//! Writers: they replace files, write to them in place, and put times back.

use super::scenario::Scenario;
use crate::ring::world::disk::{BLOCK, Write};
use crate::ring::world::{Dice, Fault, World};

/// A write that takes several steps.
struct Long {
    file: usize,
    at: u64,
    step: u64,
    is_stamped: bool,
}

#[derive(Default)]
pub struct Writers {
    under_way: Vec<Long>,
}

/// A random size for a file that has `size` bytes now.
pub fn another_size(dice: &mut Dice, size: u64) -> u64 {
    match dice.below(6) {
        0 => size + 1 + dice.below(5000) as u64,
        1 => size.saturating_sub(1 + dice.below(5000) as u64),
        _ => size,
    }
}

impl Writers {
    pub fn step(&mut self, world: &mut World, scenario: &Scenario) {
        let load = scenario.load;
        if !load.replaces && !load.in_place {
            return;
        }
        self.go_on(world);
        if !world.dice.one_in(load.pause) {
            return;
        }
        let file = world.dice.below(scenario.sizes.len());
        let size = world.disk.borrow().size_of(file);
        let write = match size {
            None => Write::Replace { size: scenario.sizes[file] },
            Some(size) if load.in_place && (!load.replaces || world.dice.one_in(2)) => {
                let Some(write) = self.in_place(world, scenario, file, size) else { return };
                write
            }
            Some(_) => match world.dice.below(8) {
                0 => Write::Delete,
                1 | 2 if load.is_honest => Write::Delete,
                1 if load.in_place => Write::Touch,
                2 if load.in_place => Write::Link(world.dice.one_in(2)),
                _ => Write::Replace { size: another_size(&mut world.dice, scenario.sizes[file]) },
            },
        };
        world.disk.borrow_mut().write(file, write);
        world.touch();
        if world.faults.has(Fault::WallSet) && world.dice.one_in(4) {
            let back = world.dice.below(20_000_000_000) as i64 - 10_000_000_000;
            world.disk.borrow_mut().wall_set += back;
        }
    }

    fn in_place(&mut self, world: &mut World, scenario: &Scenario, file: usize, size: u64) -> Option<Write> {
        let blocks = size.div_ceil(BLOCK);
        let first = world.dice.below(blocks.max(1) as usize) as u64;
        let kind = world.dice.below(8);
        if scenario.load.is_honest && ![0, 6].contains(&kind) {
            return Some(Write::InPlace { first, blocks: if kind == 1 { blocks } else { 1 }, put_back: false });
        }
        match kind {
            6 | 7 => Some(Write::Overwrite { bytes: 1 + world.dice.below(9000) as u64 }),
            0 => Some(Write::Append { bytes: 1 + world.dice.below(9000) as u64 }),
            1 => Some(Write::Truncate { size: world.dice.below(size.max(1) as usize) as u64 }),
            2 => Some(Write::InPlace { first, blocks: 1, put_back: true }),
            3 => Some(Write::InPlace { first: 0, blocks, put_back: world.dice.one_in(3) }),
            // As cp and rsync do: from the first block on, with a time for each piece; or one long write with one time.
            kind => {
                let step = 1 + world.dice.below(8) as u64;
                self.under_way.push(Long { file, at: 0, step, is_stamped: kind == 4 });
                None
            }
        }
    }

    fn go_on(&mut self, world: &mut World) {
        if self.under_way.is_empty() || !world.dice.one_in(8) {
            return;
        }
        let at = world.dice.below(self.under_way.len());
        let Long { file, at: first, step, is_stamped } = self.under_way[at];
        let size = world.disk.borrow().size_of(file);
        let write = match is_stamped || first == 0 {
            true => Write::InPlace { first, blocks: step, put_back: false },
            false => Write::InPlaceUnstamped { first, blocks: step },
        };
        world.disk.borrow_mut().write(file, write);
        world.touch();
        self.under_way[at].at += step;
        if size.is_none_or(|size| (first + step) * BLOCK >= size) {
            self.under_way.swap_remove(at);
        }
    }
}
