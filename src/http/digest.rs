//! Content-Digest: what the bytes of a body are (RFC 9530, 2).

/// Why a Content-Digest is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("Content-Digest is malformed; write Content-Digest: sha-256=:<base64 of the digest>:")]
    Malformed,
    #[error("of Content-Digest only sha-256 is checked here")]
    OtherKind,
    #[error("the sha-256 of Content-Digest does not have 32 bytes")]
    Length,
    #[error("the sha-256 of Content-Digest is no byte sequence; write sha-256=:<base64>:")]
    NoBytes,
}

/// The SHA-256 that a Content-Digest names.
///
/// # Errors
/// [`DigestError`].
pub fn sha256(value: &[u8]) -> Result<[u8; 32], DigestError> {
    let digests: sfv::Dictionary = sfv::Parser::new(value).parse().map_err(|_| DigestError::Malformed)?;
    match digests.get("sha-256").ok_or(DigestError::OtherKind)? {
        sfv::ListEntry::Item(sfv::Item { bare_item: sfv::BareItem::ByteSequence(bytes), .. }) => {
            bytes.as_slice().try_into().map_err(|_| DigestError::Length)
        }
        _ => Err(DigestError::NoBytes),
    }
}
