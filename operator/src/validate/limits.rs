//! The limits of a room's clients, within the bounds that `papo_protocol::limits` owns.

use papo_protocol::{
    Limits, limits as bounds,
    limits::{AddressLimits, Bounds},
};

use super::invalid::Invalid;
use crate::crd;

/// The limits of a spec. A limit that it leaves out has the server's default.
pub(super) fn limits(spec: Option<&crd::Limits>) -> Result<Limits, Invalid> {
    let crd::Limits {
        message_length,
        name_length,
        messages_per_second,
        message_burst,
        history_per_second,
        history_burst,
        frame_size,
        connections,
        // How the servers serve, not what their clients may do.
        history_page: _,
        slow_reader_timeout: _,
        address,
    } = spec.cloned().unwrap_or_default();
    let message_length = within(
        "limits.messageLength",
        message_length,
        bounds::MESSAGE_LENGTH,
    )?;
    // A character takes up to four bytes: a smaller frame could not hold the longest message.
    let frame_bounds = Bounds {
        min: bounds::FRAME_SIZE.min.max(4 * message_length),
        ..bounds::FRAME_SIZE
    };
    Ok(Limits {
        message_length,
        name_length: within("limits.nameLength", name_length, bounds::NAME_LENGTH)?,
        messages_per_second: within(
            "limits.messagesPerSecond",
            messages_per_second,
            bounds::MESSAGES_PER_SECOND,
        )?,
        message_burst: within("limits.messageBurst", message_burst, bounds::MESSAGE_BURST)?,
        history_per_second: within(
            "limits.historyPerSecond",
            history_per_second,
            bounds::HISTORY_PER_SECOND,
        )?,
        history_burst: within("limits.historyBurst", history_burst, bounds::HISTORY_BURST)?,
        frame_size: within("limits.frameSize", frame_size, frame_bounds)?,
        connections: within("limits.connections", connections, bounds::CONNECTIONS)?,
        address: address_limits(address.unwrap_or_default())?,
    })
}

fn address_limits(spec: crd::AddressLimits) -> Result<AddressLimits, Invalid> {
    let crd::AddressLimits {
        messages_per_second,
        message_burst,
        bytes_per_second,
        byte_burst,
        connections,
        connects_per_second,
        connect_burst,
    } = spec;
    Ok(AddressLimits {
        messages_per_second: within(
            "limits.address.messagesPerSecond",
            messages_per_second,
            bounds::ADDRESS_MESSAGES_PER_SECOND,
        )?,
        message_burst: within(
            "limits.address.messageBurst",
            message_burst,
            bounds::ADDRESS_MESSAGE_BURST,
        )?,
        bytes_per_second: within(
            "limits.address.bytesPerSecond",
            bytes_per_second,
            bounds::ADDRESS_BYTES_PER_SECOND,
        )?,
        byte_burst: within(
            "limits.address.byteBurst",
            byte_burst,
            bounds::ADDRESS_BYTE_BURST,
        )?,
        connections: connections
            .map(|count| {
                within(
                    "limits.address.connections",
                    Some(count),
                    bounds::ADDRESS_CONNECTIONS,
                )
            })
            .transpose()?,
        connects_per_second: within(
            "limits.address.connectsPerSecond",
            connects_per_second,
            bounds::ADDRESS_CONNECTS_PER_SECOND,
        )?,
        connect_burst: within(
            "limits.address.connectBurst",
            connect_burst,
            bounds::ADDRESS_CONNECT_BURST,
        )?,
    })
}

/// A number of the spec, if it is within its bounds; the default if there is none.
pub(super) fn within(
    field: &'static str,
    value: Option<u32>,
    bounds: Bounds,
) -> Result<u32, Invalid> {
    let value = value.unwrap_or(bounds.default);
    if bounds.range().contains(&value) {
        return Ok(value);
    }
    Err(Invalid::Limit {
        field,
        value,
        min: bounds.min,
        max: bounds.max,
    })
}
