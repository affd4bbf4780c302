//! `salvage`: makes a new database of the readable rows of a damaged one.

use std::io::Write;

use anyhow::bail;
use pmxcfs_memdb::store::salvage;

use super::cli::{Location, SalvageArgs};
use super::create::put_in_place;
use super::lock::{Lock, Use};
use super::repair;
use crate::text::{self, count};
use crate::tools::program::{CommandResult, Outcome};

pub(super) fn run(args: &SalvageArgs, out: &mut dyn Write) -> CommandResult {
    let damaged = Lock::take(&args.damaged, Use::Read)?;
    if args.new.exists() {
        bail!(
            "{} exists; name a file that does not exist yet",
            args.new.display()
        );
    }
    let run_dir = Location::of(&args.damaged).paths().run_dir;
    let (salvaged, losses) = salvage(&damaged.database, Some(&run_dir))?;
    let lock = Lock::take(&args.new, Use::Write)?;
    put_in_place(&lock, salvaged.root, &salvaged.entries)?;
    for line in &losses {
        writeln!(out, "lost     {line}")?;
    }
    repair::tell(&salvaged, out)?;
    let left = repair::tell_left(&salvaged, out)?;
    writeln!(
        out,
        "{}: {}, {}. {}",
        args.new.display(),
        count(salvaged.entries.len(), "entry"),
        text::root_state(salvaged.root),
        match (losses.is_empty(), salvaged.repairs.is_empty()) {
            (true, true) => "Nothing is lost",
            (true, false) => "Nothing that was found is lost",
            (false, _) => "Compare with a backup or another node before the daemon starts with it",
        }
    )?;
    Ok(if losses.is_empty() && salvaged.repairs.is_empty() {
        left
    } else {
        Outcome::Findings
    })
}
