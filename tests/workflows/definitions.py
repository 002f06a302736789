"""A definition with every kind of step but children, and the world it speaks of."""

from typing import Any

from workflows.definitions.spec import PinnedTool
from workflows.definitions.steps import References

TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def pinned(name: str, properties: dict[str, Any], **given: Any) -> PinnedTool:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return PinnedTool(
        name=name,
        digest=given.get("digest", "d"),
        title=name,
        access=given.get("access", "write"),
        idempotent=given.get("idempotent", True),
        probe=given.get("probe", ""),
        timeout_seconds=30.0,
        input_schema=schema,
        output_schema=given.get("output"),
    )


TOOLS = (
    pinned(
        "erp.get",
        {"id": TEXT},
        access="read",
        output={
            "type": "object",
            "required": ["total", "risk"],
            "properties": {"total": NUMBER, "risk": TEXT},
        },
    ),
    pinned("erp.credit", {"invoice": TEXT, "amount": NUMBER}),
    pinned("erp.void", {"credit": TEXT}),
    pinned("erp.book", {"id": TEXT}, idempotent=False, probe="find"),
    pinned("mail.send", {"to": TEXT}, idempotent=False),
)
WORLD = References(
    tools={tool.name: tool for tool in TOOLS},
    tiers=frozenset({"dual"}),
    roles=frozenset({"desk"}),
    workflows=frozenset({"other"}),
    agents=frozenset({"bob"}),
)

VENDOR_CREDIT = """\
workflow: vendor-credit
title: Credit a vendor
schema: 1
roles: [desk]
inputs:
  type: object
  required: [invoice_id, amount]
  properties: {invoice_id: {type: string}, amount: {type: number, maximum: 50000}}
limits: {deadline: 7d, max_steps: 60}
stop_when:
  - {if: "${ run.errors >= 5 }", reason: too many errors, then: halt}
on_failure: compensate
steps:
  invoice:
    tool: erp.get
    with: {id: "${ inputs.invoice_id }"}
    timeout: 20s
    retry: {max_attempts: 5, backoff: 1s, factor: 2, max_backoff: 60s}
  sign_off:
    needs: [invoice]
    when: "${ inputs.amount > 1000.0 || steps.invoice.output.risk == 'high' }"
    approval: {tier: dual, question: Credit this vendor, show: {amount: "${ inputs.amount }"}}
  credit:
    needs: [invoice, sign_off]
    tool: erp.credit
    with: {invoice: "${ inputs.invoice_id }", amount: "${ inputs.amount }"}
    compensate: {tool: erp.void, with: {credit: "${ steps.credit.output.id }"}}
  cool_off:
    needs: [credit]
    wait: {signal: vendor.acknowledged, match: "${ signal.ok }", timeout: 3d}
  tell:
    needs: [cool_off]
    foreach:
      in: "${ steps.invoice.output.contacts }"
      max_items: 50
      parallel: 5
      fail: collect
      steps:
        mail:
          tool: mail.send
          with: {to: "${ item.email }"}
          irreversible: A mail cannot be called back.
          on_unknown: ask
success: "${ steps.credit.status == 'succeeded' }"
output: {credit: "${ steps.credit.output.id }", mailed: "${ size(steps.tell.output.items) }"}
"""
