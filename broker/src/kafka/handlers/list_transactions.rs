//! ListTransactions (key 66): which transactions does this broker coordinate (KIP-664, KIP-994,
//! KIP-1152)?

use std::future::{Ready, ready};

use broker_core::txn::request::ListedTransaction;
use broker_core::txn::{IdPattern, TransactionState as State};
use types::ErrorCode;
use wire::messages::list_transactions_response::TransactionState;
use wire::messages::{ListTransactionsRequest, ListTransactionsResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) fn handle(
    cx: RequestContext,
    request: ListTransactionsRequest,
) -> Ready<ListTransactionsResponse> {
    ready(answer(&cx, &request))
}

fn answer(cx: &RequestContext, request: &ListTransactionsRequest) -> ListTransactionsResponse {
    select(cx, request).unwrap_or_else(|error| ListTransactionsResponse {
        error_code: error.code(),
        ..ListTransactionsResponse::default()
    })
}

fn select(
    cx: &RequestContext,
    request: &ListTransactionsRequest,
) -> Result<ListTransactionsResponse, ErrorCode> {
    let pattern = IdPattern::new(request.transactional_id_pattern.as_deref())?;
    let listed = cx.broker.transactions.list()?;
    let is_known = |name: &String| State::ALL.iter().any(|state| state.name() == name);
    let (known, unknown): (Vec<String>, Vec<String>) =
        request.state_filters.iter().cloned().partition(is_known);
    Ok(ListTransactionsResponse {
        transaction_states: listed
            .into_iter()
            .filter(|one| known.is_empty() || known.iter().any(|name| name == one.state.name()))
            .filter(|one| is_wanted(request, one) && pattern.matches(&one.transactional_id))
            // Whoever names only states that do not exist gets nothing.
            .filter(|_| !known.is_empty() || unknown.is_empty())
            .map(|one| TransactionState {
                transactional_id: one.transactional_id.to_string(),
                producer_id: one.producer_id.0,
                transaction_state: one.state.name().to_owned(),
                ..TransactionState::default()
            })
            .collect(),
        unknown_state_filters: unknown,
        ..ListTransactionsResponse::default()
    })
}

fn is_wanted(request: &ListTransactionsRequest, one: &ListedTransaction) -> bool {
    let ids = &request.producer_id_filters;
    let duration = request.duration_filter;
    let long_enough = duration < 0 || one.open_for_ms.is_some_and(|open| open > duration);
    long_enough && (ids.is_empty() || ids.contains(&one.producer_id.0))
}
