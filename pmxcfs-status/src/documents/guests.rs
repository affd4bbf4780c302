//! `.vmlist`: where the guests are.

use pmxcfs_memdb::GuestList;

use crate::json::{put, write_string};

/// Prints the guest list.
pub fn guest_list(list: &GuestList) -> Vec<u8> {
    let mut out = Vec::new();
    put!(&mut out, "{{\n\"version\": {}", list.version);
    if list.guests.is_empty() {
        out.extend_from_slice(b"\n\n}\n");
        return out;
    }
    let mut separator: &[u8] = b",\n\"ids\": {\n";
    for (vmid, guest) in &list.guests {
        out.extend_from_slice(separator);
        separator = b",\n";
        put!(&mut out, "\"{vmid}\": {{ \"node\": ");
        write_string(&mut out, &guest.node);
        put!(
            &mut out,
            ", \"type\": \"{}\", \"version\": {} }}",
            guest.kind.name(),
            guest.version
        );
    }
    out.extend_from_slice(b"}\n\n}\n");
    out
}
