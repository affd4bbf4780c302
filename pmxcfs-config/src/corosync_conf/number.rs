//! Which settings corosync takes as numbers.

use std::ops::RangeInclusive;

/// Range of a setting of this section and key, `None` if it is not a number or not known.
pub(super) fn range(section: &[u8], key: &[u8]) -> Option<RangeInclusive<i128>> {
    let kind = match section {
        b"totem" => totem(key),
        b"totem.interface" => interface(key),
        b"nodelist.node" if matches!(key, b"nodeid" | b"quorum_votes") => Some(Kind::U32),
        b"quorum" => quorum(key),
        b"quorum.device" => device(key),
        _ => None,
    };
    kind.map(Kind::range)
}

/// A whole number in decimal, as C's `strtoll` reads it and with nothing behind it: white space in front, then a sign, then
/// digits.
pub(super) fn parse(text: &[u8]) -> Option<i128> {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_white(byte))?;
    std::str::from_utf8(&text[start..]).ok()?.parse().ok()
}

#[derive(Clone, Copy)]
enum Kind {
    U8,
    U16,
    U32,
    I32,
    U64,
}

impl Kind {
    fn range(self) -> RangeInclusive<i128> {
        match self {
            Self::U8 => 0..=u8::MAX.into(),
            Self::U16 => 0..=u16::MAX.into(),
            Self::U32 => 0..=u32::MAX.into(),
            Self::U64 => 0..=u64::MAX.into(),
            Self::I32 => i32::MIN.into()..=i32::MAX.into(),
        }
    }
}

const fn totem(key: &[u8]) -> Option<Kind> {
    match key {
        b"config_version" => Some(Kind::U64),
        b"knet_compression_level" => Some(Kind::I32),
        b"consensus"
        | b"downcheck"
        | b"fail_recv_const"
        | b"heartbeat_failures_allowed"
        | b"hold"
        | b"join"
        | b"knet_compression_threshold"
        | b"knet_mtu"
        | b"knet_pmtud_interval"
        | b"max_messages"
        | b"max_network_delay"
        | b"merge"
        | b"miss_count_const"
        | b"netmtu"
        | b"nodeid"
        | b"rrp_autorecovery_check_timeout"
        | b"rrp_problem_count_mcast_threshold"
        | b"rrp_problem_count_threshold"
        | b"rrp_problem_count_timeout"
        | b"rrp_token_expired_timeout"
        | b"send_join"
        | b"seqno_unchanged_const"
        | b"threads"
        | b"token"
        | b"token_coefficient"
        | b"token_retransmit"
        | b"token_retransmits_before_loss_const"
        | b"token_warning"
        | b"version"
        | b"window_size" => Some(Kind::U32),
        _ => None,
    }
}

const fn interface(key: &[u8]) -> Option<Kind> {
    match key {
        b"knet_link_priority" | b"linknumber" | b"ttl" => Some(Kind::U8),
        b"mcastport" => Some(Kind::U16),
        b"knet_ping_interval"
        | b"knet_ping_precision"
        | b"knet_ping_timeout"
        | b"knet_pong_count" => Some(Kind::U32),
        _ => None,
    }
}

const fn quorum(key: &[u8]) -> Option<Kind> {
    match key {
        b"allow_downscale"
        | b"auto_tie_breaker"
        | b"expected_votes_tracking"
        | b"last_man_standing"
        | b"two_node"
        | b"wait_for_all" => Some(Kind::U8),
        b"expected_votes" | b"last_man_standing_window" | b"leaving_timeout" | b"votes" => {
            Some(Kind::U32)
        }
        _ => None,
    }
}

const fn device(key: &[u8]) -> Option<Kind> {
    match key {
        b"master_wins" => Some(Kind::U8),
        b"sync_timeout" | b"timeout" | b"votes" => Some(Kind::U32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_are_decimal_and_end_the_text() {
        let table: [(&[u8], Option<i128>); 13] = [
            (b"2", Some(2)),
            (b"+2", Some(2)),
            (b"-2", Some(-2)),
            (b"-0", Some(0)),
            (b"010", Some(10)),
            (b"\x0b2", Some(2)),
            (b"2\x0b", None),
            (b"2.0", None),
            (b"0x2", None),
            (b"+ 2", None),
            (b"", None),
            (b" ", None),
            (b"18446744073709551615", Some(u64::MAX.into())),
        ];
        for (text, number) in table {
            assert_eq!(parse(text), number, "{}", text.escape_ascii());
        }
    }
}
