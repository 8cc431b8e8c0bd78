//! How much memory the aggregator takes at most.

use crate::collector::{BUCKETS, Limits};

use super::{
    aggregate::Settings,
    cardinality::{Audience, Distinct},
    histogram::Sparse,
    points::{MINUTES, POINT_BUCKETS, Point, SECONDS, SPREAD_FIVES, SPREAD_SECONDS, Spread},
    providers::MAX_PROVIDERS,
    rows::{BATCH, Row},
    slot::{LabelRow, ROW_BUCKETS, SLOWEST, TENANT_BUCKETS},
    state::MAX_ERRORS,
    tenant_health::TenantHealth,
    users::{USER_BUCKETS, UserRow},
    window::slot_count,
};

/// An upper bound in bytes: every label of every table used in every slot, with latencies so scattered that every
/// histogram is as large as it may become. Real traffic stays far below, as a row that was not used in a slot takes
/// nothing there and a histogram is as long as its latencies are different.
///
/// `max_users`, `window_count` and the label limits are the factors; the texts of the rows in the lists come on top, at
/// about 3 KB a row where hosts use all of what they may attach.
pub(crate) fn memory_ceiling(settings: &Settings, limits: &Limits) -> usize {
    // A vector of rows doubles when it grows, so up to half of it may be empty.
    let label_row = |buckets| 2 * size_of::<LabelRow>() + Sparse::ceiling(buckets) + 8;
    let ttfb = size_of::<Sparse>() + Sparse::ceiling(ROW_BUCKETS);
    // The name, its counts and its place in the map.
    let user_row = 2 * size_of::<UserRow>() + Sparse::ceiling(USER_BUCKETS) + 160 + 2 * 17;
    let slot = (limits.routes + limits.models + 4) * label_row(ROW_BUCKETS)
        + (limits.providers + 2) * (label_row(ROW_BUCKETS) + ttfb)
        + (limits.tenants + 2) * label_row(TENANT_BUCKETS)
        + settings.max_users.max(1) * user_row
        + 2 * BUCKETS * size_of::<u64>()
        + 900 * 2 * size_of::<(u16, u64)>()
        + SLOWEST * (size_of::<Row>() + 64)
        + 2_048;
    let spread = size_of::<(u64, Spread)>() + 8 + 2 * Sparse::ceiling(POINT_BUCKETS);
    let points = (SECONDS + MINUTES) * (size_of::<(u64, Point)>() + 8)
        + (SPREAD_SECONDS + SPREAD_FIVES + MINUTES) * spread;
    let lists = (settings.recent + BATCH + MAX_ERRORS + 8_192) * (size_of::<Row>() + 64);
    let audience = (Audience::minutes(settings.user_timeout) + 1) * (Distinct::CEILING + 64);
    let names = (limits.users + 4_096) * 256;
    let own_statuses =
        limits.tenants * limits.providers.min(MAX_PROVIDERS) * TenantHealth::PAIR_BYTES;
    slot * slot_count(settings.window_size, settings.window_count)
        + points
        + lists
        + audience
        + names
        + own_statuses
}
