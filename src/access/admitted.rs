//! Admitted: who is let in, and the ticket that it brought.

use std::sync::Arc;

use super::{
    principal::Principal,
    ticket::{Key, Tickets},
};

/// Who asks, once the gate knows.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) principal: Principal,
    /// To be [spent](Loan::spend) when what it was brought for is open.
    pub(crate) ticket: Option<Loan>,
}

/// A ticket on its way to be spent. Nobody else can use it meanwhile, so it opens one thing at most; dropping this gives
/// it back, so that whoever is refused, or told to come back later, can do so with the same URL, as an EventSource does.
#[derive(Debug)]
pub(crate) struct Loan {
    tickets: Arc<Tickets>,
    key: Key,
}

impl Loan {
    /// What a ticket stands for; `None` for one that is unknown, expired, used or lent to another request.
    pub(super) fn take(tickets: &Arc<Tickets>, text: &str) -> Option<Admitted> {
        let (principal, key) = tickets.lend(text)?;
        let tickets = tickets.clone();
        Some(Admitted {
            principal,
            ticket: Some(Self { tickets, key }),
        })
    }

    /// It is used up.
    pub(crate) fn spend(self) {
        self.tickets.spend(&self.key);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Of one that is spent nothing is left.
        self.tickets.give_back(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_lent_to_one_and_spent_once() {
        let tickets = Arc::new(Tickets::new(Clock::new()));
        let ana = Principal::viewer("ana");
        let text = tickets.issue(&ana, None, None).unwrap();
        let refused = Loan::take(&tickets, &text).unwrap();
        assert_eq!(refused.principal, ana);
        assert!(Loan::take(&tickets, &text).is_none(), "it is being used");
        drop(refused);
        let opened = Loan::take(&tickets, &text).unwrap();
        opened.ticket.unwrap().spend();
        assert!(Loan::take(&tickets, &text).is_none(), "it is used up");
        assert_eq!(tickets.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_does_not_outlive_its_time_by_being_lent() {
        let tickets = Arc::new(Tickets::new(Clock::new()));
        let text = tickets
            .issue(&Principal::viewer("ana"), None, None)
            .unwrap();
        let lent = Loan::take(&tickets, &text).unwrap();
        tokio::time::advance(crate::access::ticket::TICKET_TTL).await;
        assert!(Loan::take(&tickets, &text).is_none());
        drop(lent);
        assert!(Loan::take(&tickets, &text).is_none());
        assert_eq!(tickets.len(), 0);
    }
}
