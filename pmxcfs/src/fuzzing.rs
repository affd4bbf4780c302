//! What holds for any request, of a client or of the kernel. Called by tests and by the targets in `fuzz/`.

use pmxcfs_api_types::FsError;

use crate::ipc::decode::Call;

/// Requests of the kernel, four bytes each, while another node changes the tree between them, beside a plain model.
pub fn filesystem(bytes: &[u8]) {
    crate::fs::tests::model::run_bytes(bytes);
}

/// A request of an IPC client. The first four bytes are the operation, the fifth says whether the client may change anything, the rest is the body of the
/// request. Strings are parts of it without a NUL, and who may only read learns nothing else from an operation that
/// changes something.
pub fn ipc_operation(bytes: &[u8]) {
    let Some((id, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((access, body)) = rest.split_first() else {
        return;
    };
    let (id, is_root) = (i32::from_le_bytes(*id), access % 2 == 1);
    let call = Call::decode(id, body, is_root);
    if matches!(id, 4 | 7) && !is_root {
        assert_eq!(call, Err(FsError::NotPermitted));
        return;
    }
    let strings = match call {
        Err(error) => {
            let is_known = matches!(id, 1..=8 | 10..=13);
            let expected = if is_known {
                FsError::Invalid
            } else {
                FsError::UnknownOperation
            };
            assert_eq!(error, expected);
            return;
        }
        Ok(Call::Version | Call::ClusterInfo | Call::GuestList | Call::RrdDump) => {
            assert!(body.is_empty());
            vec![]
        }
        Ok(Call::SetStatus { key, value }) => {
            assert_eq!(value.len(), body.len() - 256);
            vec![key]
        }
        Ok(Call::Status { key, node }) => vec![key, node],
        Ok(Call::Config { path }) => vec![path],
        Ok(Call::Log(message)) => vec![message.ident, message.tag, message.message],
        Ok(Call::ClusterLog { user, .. }) => vec![user],
        Ok(Call::VerifyToken { token }) => {
            assert!(!token.is_empty() && !token.contains(&b'\n'));
            vec![token]
        }
        Ok(Call::GuestProperties { names, .. }) => {
            let names = names.unwrap_or_default();
            assert!(id == 11 || names.iter().all(|name| name[0].is_ascii_lowercase()));
            names
        }
    };
    for string in strings {
        assert!(string.len() < body.len() && !string.contains(&0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::ipc_operation;

    proptest! {
        #[test]
        fn any_bytes(bytes in vec(any::<u8>(), 0..600)) {
            ipc_operation(&bytes);
        }

        #[test]
        fn likely_requests(
            id in 0..15u8,
            access: u8,
            body in vec(prop_oneof![4 => Just(0), 4 => Just(b'a'), 1 => 0..6u8, 1 => any::<u8>()], 0..600),
        ) {
            ipc_operation(&[&[id, 0, 0, 0, access][..], &body].concat());
        }
    }
}
