/** The filters of the deliveries of webhooks, as the address of the page holds them. */

import { WebhookDelivery_State } from "@ingot/client/v1";

export interface DeliveryFilters {
  /** Id of the job that they are about; empty for all jobs. */
  jobId: string;
  state: WebhookDelivery_State;
}

export const STATE_NAMES = ["pending", "delivered", "failed"] as const;

const STATES: Readonly<Record<string, WebhookDelivery_State>> = {
  pending: WebhookDelivery_State.PENDING,
  delivered: WebhookDelivery_State.DELIVERED,
  failed: WebhookDelivery_State.FAILED,
};
/** What the contract accepts. */
const ID_LENGTH = 1024;

/** Returns the filters in a query. What is not a filter is left out, so an old link still works. */
export function filtersOf(query: URLSearchParams): DeliveryFilters {
  return {
    jobId: (query.get("job") ?? "").slice(0, ID_LENGTH),
    state: STATES[query.get("state") ?? ""] ?? WebhookDelivery_State.UNSPECIFIED,
  };
}
