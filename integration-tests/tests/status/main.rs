//! Status, cluster log and RRD of a running daemon, asked as the Perl module asks.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

mod documents;
mod guests;
mod hostile;
mod keys;
mod log;
mod operations;
mod requests;
mod rrd;
mod rrd_tools;
