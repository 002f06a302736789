from django.db import migrations

from audit.leaf_encoding import mac_of, encode_event
from audit.services.recording import mac_key

BATCH = 1_000
WRITER = "before"


def fill(apps, schema_editor):
    """What was recorded before there were leaves, as one writer's, in its order."""
    Event = apps.get_model("audit", "Event")
    EventPayload = apps.get_model("audit", "EventPayload")
    number = 0
    while batch := list(Event.objects.filter(leaf="").order_by("id")[:BATCH]):
        key_id, key = mac_key()
        payloads = []
        for event in batch:
            number += 1
            row = {field.attname: getattr(event, field.attname) for field in event._meta.fields}
            made = encode_event(row, writer=[WRITER, number])
            event.writer, event.writer_number = WRITER, number
            event.leaf, event.mac, event.mac_key = made.text, mac_of(made.text, key), key_id
            payloads.append(
                EventPayload(
                    event_id=event.uid,
                    actor_label=event.actor_label,
                    subject_label=event.subject_label,
                    disclosures=dict(made.disclosures),
                )
            )
        fields = ["writer", "writer_number", "leaf", "mac", "mac_key"]
        Event.objects.bulk_update(batch, fields, batch_size=100)
        EventPayload.objects.bulk_create(payloads, batch_size=100)


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_leaves_and_what_lies_beside")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
