//! Three services and four kinds of event between them: as few as have every relation that the real ones have.

use uuid::Uuid;

pub const SERVICES: usize = 3;

pub struct Kind {
    pub readers: &'static [usize],
    /// What its reader says when it has handled one: reader and kind.
    pub leads_to: Option<(usize, usize)>,
}

/// Spontaneous, and read by one; follows from it, and read by two; follows from that, for plain subscribers; spontaneous, for them.
pub const KINDS: [Kind; 4] = [
    Kind {
        readers: &[1],
        leads_to: Some((1, 1)),
    },
    Kind {
        readers: &[0, 2],
        leads_to: Some((2, 2)),
    },
    Kind {
        readers: &[],
        leads_to: None,
    },
    Kind {
        readers: &[],
        leads_to: None,
    },
];

pub fn event(number: u32, kind: usize) -> Uuid {
    Uuid::from_u128(u128::from(number) << 8 | kind as u128)
}

/// Derived as in production: the same cause, the same id.
pub fn derived(cause: Uuid, kind: usize) -> Uuid {
    Uuid::from_u128(cause.as_u128() & !0xff | kind as u128)
}

/// Its handler says that no retry can help.
pub fn is_poison(event: Uuid) -> bool {
    (event.as_u128() >> 8) % 11 == 10
}

pub fn shown(event: Uuid) -> String {
    format!("{}.{}", event.as_u128() >> 8, event.as_u128() & 0xff)
}
