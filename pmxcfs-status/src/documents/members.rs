//! `.members`: the cluster and its nodes.

use crate::json::{put, write_string};
use crate::members::Members;

/// Prints the members. Without a node list only name and version of this node are printed.
pub fn members(members: &Members, is_quorate: bool) -> Vec<u8> {
    let mut out = b"{\n\"nodename\": ".to_vec();
    write_string(&mut out, &members.own_name);
    put!(&mut out, ",\n\"version\": {}", members.version);
    let Some(cluster) = members.cluster() else {
        out.extend_from_slice(b"\n}\n");
        return out;
    };
    out.extend_from_slice(b",\n\"cluster\": { \"name\": ");
    write_string(&mut out, &cluster.name);
    put!(
        &mut out,
        ", \"version\": {}, \"nodes\": {}, \"quorate\": {} }},\n\"nodelist\": {{\n",
        cluster.config_version,
        cluster.nodes.len(),
        u8::from(is_quorate)
    );
    let mut separator: &[u8] = b"  ";
    for (id, node) in &cluster.nodes {
        out.extend_from_slice(separator);
        separator = b",\n  ";
        write_string(&mut out, &node.name);
        let online = u8::from(node.is_online);
        put!(&mut out, ": {{ \"id\": {id}, \"online\": {online}");
        if let Some(address) = members.address(&node.name) {
            out.extend_from_slice(b", \"ip\": ");
            write_string(&mut out, address);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"\n  }\n}\n");
    out
}
