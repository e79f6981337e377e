//! The columns of a simulated payment that a model may learn from.

/// A feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: &'static str,
    /// Unit and meaning.
    pub meaning: &'static str,
}

const fn column(name: &'static str, meaning: &'static str) -> ColumnInfo {
    ColumnInfo { name, meaning }
}

/// Position of the merchant's category, the only text.
pub(super) const CATEGORY: usize = 17;

/// All features, in the order of [`super::DayBatch::features`]. A window of `N` days ends with the payment and
/// holds it; what needs labels counts only those known at the payment.
pub const COLUMNS: [ColumnInfo; 18] = [
    column("tx_amount", "currency units, two decimals"),
    column("tx_during_weekend", "1 on Saturday and Sunday, else 0"),
    column("tx_during_night", "1 from 00:00 to 06:59, else 0"),
    column("customer_nb_tx_1d", "payments of the customer in 1 day"),
    column("customer_nb_tx_7d", "payments of the customer in 7 days"),
    column("customer_nb_tx_30d", "payments of the customer in 30 days"),
    column(
        "customer_avg_amount_1d",
        "mean amount of customer_nb_tx_1d, currency units",
    ),
    column(
        "customer_avg_amount_7d",
        "mean amount of customer_nb_tx_7d, currency units",
    ),
    column(
        "customer_avg_amount_30d",
        "mean amount of customer_nb_tx_30d, currency units",
    ),
    column(
        "customer_nb_fraud_14d",
        "frauds of the customer whose labels became known in the last 14 days",
    ),
    column(
        "terminal_nb_tx_1d",
        "payments at the terminal whose labels became known in the last day",
    ),
    column(
        "terminal_nb_tx_7d",
        "payments at the terminal whose labels became known in the last 7 days",
    ),
    column(
        "terminal_nb_tx_28d",
        "payments at the terminal whose labels became known in the last 28 days",
    ),
    column(
        "terminal_risk_1d",
        "share of frauds among the payments of terminal_nb_tx_1d, 0 when there are none",
    ),
    column(
        "terminal_risk_7d",
        "share of frauds among the payments of terminal_nb_tx_7d, 0 when there are none",
    ),
    column(
        "terminal_risk_28d",
        "share of frauds among the payments of terminal_nb_tx_28d, 0 when there are none",
    ),
    column(
        "amount_ratio_30d",
        "tx_amount by customer_avg_amount_30d, 1 when that is 0",
    ),
    column("merchant_category", "what the terminal's merchant sells"),
];

/// Features that a fraud model should be trained on: all but the numbers of payments at a terminal, which say
/// nothing about fraud and take four weeks to settle.
pub fn recommended() -> impl Iterator<Item = &'static str> {
    COLUMNS
        .iter()
        .map(|column| column.name)
        .filter(|name| !name.starts_with("terminal_nb_tx"))
}

/// Features not to watch for drift: calendar flags, which differ between any day and any two weeks.
pub const NOT_MONITORED: [&str; 2] = ["tx_during_weekend", "tx_during_night"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_the_category_is_where_it_is_said_to_be() {
        let names: std::collections::BTreeSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert_eq!(COLUMNS[CATEGORY].name, "merchant_category");
        assert!(
            NOT_MONITORED
                .iter()
                .all(|name| recommended().any(|known| known == *name))
        );
        assert_eq!(recommended().count(), 15);
    }
}
