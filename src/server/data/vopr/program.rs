//! The command line of `forebay-vopr`.

use super::scenario::Scenario;
use super::{Tally, run};
use crate::planted::{self, Defect};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const USAGE: &str = "forebay-vopr --seed N | --seeds A..B | --minutes M [--from N]

  --seed N      run one seed
  --seeds A..B  run these seeds
  --minutes M   run seeds from --from (default: the time) on for so long
  --keep-going  go on after a finding
  --defect NAME plant this one only
  --planted     plant each of the defects that are there for that, and see how long it takes to find it

A seed that fails is made smaller and shown; the exit status is 1 then.";

/// What the last panic said, and where.
static SAID: Mutex<String> = Mutex::new(String::new());

struct Order {
    seeds: Range<u64>,
    until: Option<Duration>,
    keeps_going: bool,
    is_planted: bool,
    defect: Option<String>,
}

fn parse(arguments: impl Iterator<Item = String>) -> Option<Order> {
    let mut order = Order { seeds: 0..0, until: None, keeps_going: false, is_planted: false, defect: None };
    let mut arguments = arguments.peekable();
    let mut from = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs() << 20;
    arguments.peek()?;
    while let Some(argument) = arguments.next() {
        if argument == "--keep-going" {
            order.keeps_going = true;
            continue;
        }
        if argument == "--planted" {
            order.is_planted = true;
            continue;
        }
        let value = arguments.next()?;
        match argument.as_str() {
            "--seed" => {
                let seed = value.parse().ok()?;
                order.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let (begin, end) = value.split_once("..")?;
                order.seeds = begin.parse().ok()?..end.parse().ok()?;
            }
            "--minutes" => order.until = Some(Duration::from_secs_f64(value.parse::<f64>().ok()? * 60.0)),
            "--defect" => {
                order.is_planted = true;
                order.defect = Some(value);
            }
            "--from" => from = value.parse().ok()?,
            _ => return None,
        }
    }
    if order.until.is_some() || order.is_planted && order.seeds.is_empty() {
        order.seeds = from..u64::MAX;
    }
    (!order.seeds.is_empty()).then_some(order)
}

/// What a run comes to: its tally, or what it found.
fn attempt(scenario: &Scenario) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| run(scenario))).map_err(|_| {
        crate::machine::simulate(None);
        SAID.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |said| said.clone())
    })
}

/// What a finding is known by: where it was found.
fn place(said: &str) -> &str {
    said.lines().next().unwrap_or("")
}

/// Makes a failing scenario smaller while it fails at the same place.
fn minimise(scenario: &Scenario, said: &str, patience: Duration) -> (Scenario, String) {
    let (mut smallest, mut words) = (scenario.clone(), said.to_owned());
    let begun = Instant::now();
    'smaller: while begun.elapsed() < patience {
        for candidate in smallest.smaller() {
            if begun.elapsed() > patience {
                break 'smaller;
            }
            if let Err(said) = attempt(&candidate)
                && place(&said) == place(&words)
            {
                (smallest, words) = (candidate, said);
                continue 'smaller;
            }
        }
        break;
    }
    (smallest, words)
}

/// Plants one defect after the other; the exit status is 1 if any of them is not found.
fn plant_all(order: &Order) -> ExitCode {
    let patience = order.until.unwrap_or(Duration::from_secs(600));
    let mut missed = 0;
    println!("| defect | what goes wrong | seeds | seconds | how it shows |\n|---|---|---|---|---|");
    let is_meant = |defect: Defect| order.defect.as_ref().is_none_or(|name| *name == format!("{defect:?}"));
    for &(defect, words) in Defect::ALL.iter().filter(|(defect, _)| is_meant(*defect)) {
        let begun = Instant::now();
        planted::plant(Some(defect));
        let found =
            order.seeds.clone().zip(1u64..).take_while(|_| begun.elapsed() < patience).find_map(|(seed, count)| {
                let said = attempt(&Scenario::of(seed)).err()?;
                Some((count, said))
            });
        planted::plant(None);
        let seconds = begun.elapsed().as_secs_f64();
        match found {
            Some((seeds, said)) => {
                let how: String = said.lines().nth(1).unwrap_or(&said).trim().chars().take(72).collect();
                let how = how.replace('|', "/");
                println!("| `{defect:?}` | {} | {seeds} | {seconds:.1} | {how} |", words.trim());
            }
            None => {
                missed += 1;
                println!("| `{defect:?}` | {} | | | **not found** |", words.trim());
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(seed: u64, scenario: &Scenario, said: &str) {
    println!("seed {seed}: {said}");
    let (smallest, words) = minimise(scenario, said, Duration::from_secs(60));
    println!("made smaller:\n  {words}\n  {smallest}");
}

pub fn main() -> ExitCode {
    let Some(order) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("");
        if let Ok(mut said) = SAID.lock() {
            *said = format!("{place}\n  {what}");
        }
    }));
    if order.is_planted {
        return plant_all(&order);
    }
    let begun = Instant::now();
    let (mut total, mut seeds, mut findings) = (Tally::default(), 0u64, 0u64);
    for seed in order.seeds {
        if order.until.is_some_and(|until| begun.elapsed() >= until) {
            break;
        }
        let scenario = Scenario::of(seed);
        seeds += 1;
        match attempt(&scenario) {
            Ok(tally) => {
                total.completions += tally.completions;
                total.answers += tally.answers;
                total.connections += tally.connections;
            }
            Err(said) => {
                findings += 1;
                report(seed, &scenario, &said);
                if !order.keeps_going {
                    break;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let Tally { completions, answers, connections } = total;
    println!(
        "{seeds} seeds, {findings} findings: {completions} completions, {answers} answers, {connections} connections in \
         {seconds:.1} s ({:.2} million completions a second)",
        completions as f64 / seconds / 1e6
    );
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
