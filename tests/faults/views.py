"""What the checks of the invariants ask Postgres, as a superuser: what every service wrote, side by side."""

from typing import Final

# Temporary views of the checker's own connection: the same tables of all services in one.
VIEWS: Final = """
CREATE OR REPLACE TEMP VIEW events AS
    SELECT 'identity' AS producer, id, tenant_id, type, subject, sequence, data, published_at FROM identity.outbox
    UNION ALL
    SELECT 'projects', id, tenant_id, type, subject, sequence, data, published_at FROM projects.outbox
    UNION ALL
    SELECT 'indexing', id, tenant_id, type, subject, sequence, data, published_at FROM indexing.outbox
    UNION ALL
    SELECT 'notifier', id, tenant_id, type, subject, sequence, data, published_at FROM notifier.outbox;
CREATE OR REPLACE TEMP VIEW applied AS
    SELECT 'identity' AS service, tenant_id, event_id, handler FROM identity.inbox
    UNION ALL
    SELECT 'projects', tenant_id, event_id, handler FROM projects.inbox
    UNION ALL
    SELECT 'indexing', tenant_id, event_id, handler FROM indexing.inbox
    UNION ALL
    SELECT 'notifier', tenant_id, event_id, handler FROM notifier.inbox;
CREATE OR REPLACE TEMP VIEW quarantined AS
    SELECT 'identity' AS service, id, stream, entry_id, handler, event_id, reason, payload,
        redrive_requested_at FROM identity.dead_letters
    UNION ALL
    SELECT 'projects', id, stream, entry_id, handler, event_id, reason, payload,
        redrive_requested_at FROM projects.dead_letters
    UNION ALL
    SELECT 'indexing', id, stream, entry_id, handler, event_id, reason, payload,
        redrive_requested_at FROM indexing.dead_letters
    UNION ALL
    SELECT 'notifier', id, stream, entry_id, handler, event_id, reason, payload,
        redrive_requested_at FROM notifier.dead_letters;
CREATE OR REPLACE TEMP VIEW accesses AS
    SELECT 'indexing.known_projects' AS place, tenant_id, project_id FROM indexing.known_projects
    UNION ALL
    SELECT 'indexing.project_access', tenant_id, project_id FROM indexing.project_access
    UNION ALL
    SELECT 'notifier.known_projects', tenant_id, project_id FROM notifier.known_projects
    UNION ALL
    SELECT 'notifier.project_access', tenant_id, project_id FROM notifier.project_access
    UNION ALL
    SELECT 'notifier.feed_events', tenant_id, project_id FROM notifier.feed_events
    UNION ALL
    SELECT 'projects.project_members', tenant_id, project_id FROM projects.project_members
    UNION ALL
    SELECT 'projects.documents', tenant_id, project_id FROM projects.documents
    UNION ALL
    SELECT 'projects.project_contents', tenant_id, project_id FROM projects.project_contents
    UNION ALL
    SELECT 'projects.uploads', tenant_id, project_id FROM projects.uploads;
CREATE OR REPLACE TEMP VIEW holdings AS
    SELECT 'indexing.documents' AS place, tenant_id, document_id FROM indexing.documents
    UNION ALL
    SELECT 'indexing.jobs', tenant_id, document_id FROM indexing.jobs
    UNION ALL
    SELECT 'indexing.chunks', tenant_id, document_id FROM indexing.chunks
    UNION ALL
    SELECT 'indexing.embedded_batches', tenant_id, document_id FROM indexing.embedded_batches
    UNION ALL
    SELECT 'indexing.vector_changes', tenant_id, document_id FROM indexing.vector_changes
        WHERE document_id IS NOT NULL;
"""

# --- what still moves ------------------------------------------------------------------------------------------------

MOVING: Final = """
SELECT 'events not published' AS what, count(*) AS count FROM events WHERE published_at IS NULL
UNION ALL
SELECT 'jobs not finished', count(*) FROM indexing.jobs WHERE state NOT IN ('indexed', 'failed', 'cancelled')
UNION ALL
SELECT 'documents without an outcome', count(*) FROM projects.documents
    WHERE status IN ('queued', 'indexing') AND deleted_at IS NULL
UNION ALL
SELECT 'pending vector changes', count(*) FROM indexing.vector_changes
UNION ALL
SELECT 'blobs to be removed', count(*) FROM projects.blob_deletions
UNION ALL
SELECT 'uploads to be removed', count(*) FROM projects.upload_expiries WHERE due_at <= now()
UNION ALL
SELECT 'documents not purged', count(*) FROM projects.document_purges WHERE purged_at IS NULL
UNION ALL
SELECT 'dead letters to be redriven', count(*) FROM quarantined WHERE redrive_requested_at IS NOT NULL
"""

# $1, $2, $3: event type, service and handler name of every subscription.
NOT_APPLIED: Final = """
SELECT event.id, event.type, subscription.service, subscription.handler
FROM events AS event
JOIN unnest($1::text[], $2::text[], $3::text[]) AS subscription (type, service, handler)
    ON subscription.type = event.type
LEFT JOIN applied ON applied.service = subscription.service AND applied.tenant_id = event.tenant_id
    AND applied.event_id = event.id AND applied.handler = subscription.handler
WHERE applied.event_id IS NULL AND NOT EXISTS (
    SELECT FROM quarantined
    WHERE quarantined.event_id = event.id AND quarantined.handler = subscription.handler
        AND quarantined.service = subscription.service
)
"""

# --- I2, I3 ----------------------------------------------------------------------------------------------------------

APPLIED_FROM_NOWHERE: Final = """
SELECT applied.service, applied.handler, applied.event_id, event.type
FROM applied
LEFT JOIN events AS event ON event.id = applied.event_id
LEFT JOIN unnest($1::text[], $2::text[], $3::text[]) AS subscription (type, service, handler)
    ON subscription.type = event.type AND subscription.service = applied.service
    AND subscription.handler = applied.handler
WHERE subscription.handler IS NULL
"""

# $1: types of events that clients see. After a document's deletion nothing more is told of it.
NOT_TOLD: Final = """
SELECT event.id, event.type, event.subject
FROM events AS event
LEFT JOIN notifier.feed_events AS told ON told.event_id = event.id
WHERE event.type = ANY ($1::text[]) AND told.event_id IS NULL
    AND NOT EXISTS (
        SELECT FROM notifier.feed_events AS deletion
        WHERE deletion.tenant_id = event.tenant_id AND deletion.subject_id::text = event.subject
            AND deletion.type = 'document.deleted'
    )
    AND NOT EXISTS (SELECT FROM quarantined WHERE quarantined.event_id = event.id AND service = 'notifier')
"""

TOLD_TWICE_OR_FROM_NOWHERE: Final = """
SELECT told.event_id, count(*) AS rows, min(told.type) AS type, count(event.id) AS events
FROM notifier.feed_events AS told
LEFT JOIN events AS event ON event.id = told.event_id AND event.type = ANY ($1::text[])
GROUP BY told.event_id HAVING count(*) <> 1 OR count(event.id) <> 1
"""

FEEDS_WITH_GAPS: Final = """
WITH numbers AS (
    SELECT tenant_id, project_id AS feed_id, sequence FROM notifier.feed_events
    UNION ALL
    SELECT tenant_id, tenant_id, tenant_sequence FROM notifier.feed_events
)
SELECT feed.feed_id, feed.last_sequence, feed.first_kept_sequence, count(numbers.sequence) AS rows,
    count(DISTINCT numbers.sequence) AS numbers, min(numbers.sequence) AS first, max(numbers.sequence) AS last
FROM notifier.feeds AS feed
FULL JOIN numbers ON numbers.tenant_id = feed.tenant_id AND numbers.feed_id = feed.feed_id
GROUP BY feed.feed_id, feed.last_sequence, feed.first_kept_sequence
HAVING feed.feed_id IS NULL
    OR count(numbers.sequence) <> count(DISTINCT numbers.sequence)
    OR (feed.first_kept_sequence = 1 AND count(numbers.sequence) <> feed.last_sequence)
    OR (count(numbers.sequence) > 0 AND max(numbers.sequence) <> feed.last_sequence)
"""

JOBS_AND_DOCUMENTS: Final = """
SELECT coalesce(document.id, job.document_id) AS document_id, document.version, document.status, document.job_id,
    document.job_sequence, document.chunk_count, job.id AS job, job.state, job.revision, job.chunk_count AS job_chunks,
    indexed.live_version,
    coalesce(document.live_version, CASE WHEN document.indexed_at IS NOT NULL THEN 1 END) AS known_as_live, (
        SELECT count(*) FROM indexing.chunks
        WHERE chunks.tenant_id = document.tenant_id AND chunks.document_id = document.id
    ) AS chunks
FROM projects.documents AS document
FULL JOIN (
    SELECT DISTINCT ON (tenant_id, document_id) * FROM indexing.jobs ORDER BY tenant_id, document_id, version DESC
) AS job ON job.tenant_id = document.tenant_id AND job.document_id = document.id AND job.version = document.version
LEFT JOIN indexing.documents AS indexed ON indexed.tenant_id = document.tenant_id
    AND indexed.document_id = document.id
WHERE document.id IS NULL OR (document.deleted_at IS NULL AND NOT document.linked AND (
    job.id IS NULL
    OR document.status <> job.state
    OR document.job_id IS DISTINCT FROM job.id
    OR document.job_sequence <> job.revision
    OR (document.status = 'indexed' AND indexed.live_version IS NULL)
    OR indexed.live_version IS DISTINCT FROM
        coalesce(document.live_version, CASE WHEN document.indexed_at IS NOT NULL THEN 1 END)
    OR (document.status = 'indexed' AND (
        indexed.live_version <> document.version OR document.chunk_count IS DISTINCT FROM (
            SELECT count(*) FROM indexing.chunks
            WHERE chunks.tenant_id = document.tenant_id AND chunks.document_id = document.id
        )))
    OR EXISTS (
        SELECT FROM indexing.chunks
        WHERE chunks.tenant_id = document.tenant_id AND chunks.document_id = document.id
            AND chunks.version IS DISTINCT FROM indexed.live_version
    )
))
"""

LEFT_OF_THE_DELETED: Final = """
SELECT holdings.place, document.id AS document_id, count(*) AS rows
FROM projects.documents AS document
JOIN holdings ON holdings.tenant_id = document.tenant_id AND holdings.document_id = document.id
LEFT JOIN indexing.documents AS known ON holdings.place = 'indexing.documents'
    AND known.tenant_id = document.tenant_id AND known.document_id = document.id
LEFT JOIN indexing.jobs AS job ON holdings.place = 'indexing.jobs'
    AND job.tenant_id = document.tenant_id AND job.document_id = document.id
WHERE document.deleted_at IS NOT NULL
    AND (holdings.place <> 'indexing.documents' OR NOT known.deleted OR known.live_version IS NOT NULL)
    AND (holdings.place <> 'indexing.jobs' OR job.state NOT IN ('indexed', 'failed', 'cancelled'))
GROUP BY holdings.place, document.id
"""

# Once all is quiet. Deleted rows of tests that never lived have no deletion in the outbox.
TOMBSTONES_WITHOUT_RECEIPT: Final = """
SELECT deletion.subject AS document_id, purge.purged_at, count(receipt.id) AS receipts
FROM events AS deletion
JOIN projects.documents AS document ON document.tenant_id = deletion.tenant_id AND document.id::text = deletion.subject
LEFT JOIN projects.document_purges AS purge ON purge.tenant_id = document.tenant_id AND purge.document_id = document.id
LEFT JOIN events AS receipt ON receipt.tenant_id = deletion.tenant_id AND receipt.subject = deletion.subject
    AND receipt.type = 'projects.document.purged.v1'
WHERE deletion.type = 'projects.document.deleted.v1'
GROUP BY 1, 2 HAVING purge.purged_at IS NULL OR count(receipt.id) <> 1
"""

# At any time.
RECEIPTS_TOO_EARLY: Final = """
SELECT purge.document_id, remains.place
FROM projects.document_purges AS purge
JOIN (
    SELECT place, tenant_id, document_id FROM holdings WHERE place NOT IN ('indexing.documents', 'indexing.jobs')
    UNION ALL
    SELECT 'indexing.run_documents', tenant_id, document_id FROM indexing.run_documents
    UNION ALL
    SELECT 'projects.document_versions', tenant_id, document_id FROM projects.document_versions
    UNION ALL
    SELECT 'projects.blob_deletions', tenant_id, unnest(deleted) FROM projects.blob_deletions
    UNION ALL
    SELECT 'notifier.feed_events', tenant_id, subject_id FROM notifier.feed_events
        WHERE data ?| ARRAY['name', 'title', 'reason']
) AS remains ON remains.tenant_id = purge.tenant_id AND remains.document_id = purge.document_id
WHERE purge.purged_at IS NOT NULL AND remains.place <> 'indexing.vector_changes'
"""

# --- I4, I6, I7 ------------------------------------------------------------------------------------------------------

VERSIONS_WITH_GAPS: Final = """
WITH aggregates AS (
    SELECT 'project' AS kind, tenant_id, id::text AS subject, revision FROM projects.projects
    UNION ALL
    SELECT 'document', tenant_id, id::text, revision FROM projects.documents
    UNION ALL
    SELECT 'job', tenant_id, id::text, revision FROM indexing.jobs
    UNION ALL
    SELECT 'run', tenant_id, id::text, events FROM indexing.runs
    UNION ALL
    -- Its only event is its completion.
    SELECT 'batch', tenant_id, id::text, CASE WHEN completed_at IS NULL THEN 0 ELSE 1 END FROM projects.batches
    UNION ALL
    -- Its last event is all that is left of it.
    SELECT 'deleted run', tenant_id, subject, sequence FROM events WHERE type = 'indexing.run.deleted.v1'
)
SELECT aggregates.kind, coalesce(aggregates.subject, event.subject) AS subject, aggregates.revision,
    count(event.id) AS events, count(DISTINCT event.sequence) AS versions, min(event.sequence) AS first,
    max(event.sequence) AS last
FROM aggregates
FULL JOIN (
    -- Indexing tells of a document with the document's own revision.
    SELECT * FROM events WHERE producer IN ('projects', 'indexing') AND type <> 'indexing.document.purged.v1'
) AS event
    ON event.tenant_id = aggregates.tenant_id AND event.subject = aggregates.subject
GROUP BY 1, 2, 3
HAVING aggregates.revision IS NULL OR count(event.id) <> aggregates.revision
    OR count(DISTINCT event.sequence) <> aggregates.revision
    OR (aggregates.revision > 0 AND (min(event.sequence) <> 1 OR max(event.sequence) <> aggregates.revision))
"""

RUNNING_WITHOUT_A_LEASE: Final = """
SELECT id, document_id, state, lease_owner, lease_expires_at FROM indexing.jobs
WHERE state IN ('extracting', 'chunking', 'embedding', 'storing')
    AND (lease_expires_at IS NULL OR lease_owner IS NULL OR lease_expires_at < now())
"""

QUARANTINED: Final = "SELECT service, id, stream, entry_id, handler, event_id, reason FROM quarantined ORDER BY id"

# Put there on purpose, see `tests.faults.places`.
PLANTED: Final = "SELECT id FROM quarantined WHERE reason = 'planted' OR payload = 'not a CloudEvent'::bytea"

# --- I9 --------------------------------------------------------------------------------------------------------------

FOREIGN_TENANTS: Final = """
SELECT 'event of a project' AS what, event.id::text AS id, event.tenant_id AS tenant, project.tenant_id AS owner
FROM events AS event
JOIN projects.projects AS project ON project.id::text = event.data ->> 'project_id'
WHERE project.tenant_id <> event.tenant_id
UNION ALL
SELECT 'event of a document', event.id::text, event.tenant_id, document.tenant_id
FROM events AS event
JOIN projects.documents AS document ON document.id::text = event.data ->> 'document_id'
WHERE document.tenant_id <> event.tenant_id
UNION ALL
SELECT 'event of a job', event.id::text, event.tenant_id, job.tenant_id
FROM events AS event
JOIN indexing.jobs AS job ON job.id::text = event.data ->> 'job_id'
WHERE job.tenant_id <> event.tenant_id
UNION ALL
SELECT applied.service || '.inbox of ' || applied.handler, applied.event_id::text, applied.tenant_id, event.tenant_id
FROM applied
JOIN events AS event ON event.id = applied.event_id
WHERE event.tenant_id <> applied.tenant_id
UNION ALL
SELECT 'notifier.feed_events', told.event_id::text, told.tenant_id, event.tenant_id
FROM notifier.feed_events AS told
JOIN events AS event ON event.id = told.event_id
WHERE event.tenant_id <> told.tenant_id
UNION ALL
SELECT accesses.place, accesses.project_id::text, accesses.tenant_id, project.tenant_id
FROM accesses
JOIN projects.projects AS project ON project.id = accesses.project_id
WHERE project.tenant_id <> accesses.tenant_id
UNION ALL
SELECT holdings.place, holdings.document_id::text, holdings.tenant_id, document.tenant_id
FROM holdings
JOIN projects.documents AS document ON document.id = holdings.document_id
WHERE document.tenant_id <> holdings.tenant_id
"""

# --- what the ledger and the transcripts are compared with -----------------------------------------------------------

PROJECTS: Final = """
SELECT id, tenant_id, name, deleted_at IS NOT NULL AS deleted FROM projects.projects WHERE id = ANY ($1::uuid[])
"""
MEMBERS: Final = """
SELECT project_id, user_id, role FROM projects.project_members WHERE project_id = ANY ($1::uuid[])
"""
DOCUMENTS: Final = """
SELECT id, tenant_id, project_id, name, sha256, version, status, deleted_at IS NOT NULL AS deleted
FROM projects.documents WHERE id = ANY ($1::uuid[])
"""
PUBLISHED: Final = """
SELECT subject::uuid AS subject, type, count(*) AS count FROM projects.outbox
WHERE subject = ANY ($1::text[]) GROUP BY 1, 2
"""
NAMED: Final = """
SELECT tenant_id, 'project' AS kind, name, count(*) AS count FROM projects.projects
WHERE name = ANY ($1::text[]) GROUP BY 1, 2, 3
UNION ALL
SELECT tenant_id, 'document', name, count(*) FROM projects.documents
WHERE name = ANY ($1::text[]) GROUP BY 1, 2, 3
"""
TOLD: Final = """
SELECT sequence, tenant_sequence, type, project_id FROM notifier.feed_events
WHERE tenant_id = $1 AND ($2::uuid = $1 OR project_id = $2) ORDER BY tenant_sequence
"""
# Every version, and the blob it refers to.
STORED: Final = """
SELECT tenant_id, project_id, id, coalesce(blob_id, id) AS blob, true AS newest, deleted_at IS NOT NULL AS deleted
FROM projects.documents
UNION ALL
SELECT tenant_id, project_id, document_id, blob_id, false, false FROM projects.document_versions
"""
MISCOUNTED: Final = """
SELECT counted.project_id, counted.documents, counted.bytes, kept.documents AS kept, kept.bytes AS kept_bytes
FROM (
    SELECT project_id, count(*) AS documents, sum(size) AS bytes, count(*) FILTER (WHERE status = 'indexed') AS indexed
    FROM projects.documents WHERE deleted_at IS NULL GROUP BY project_id
) AS counted
FULL JOIN (
    SELECT project_id, queued + indexing + indexed + failed + cancelled AS documents, bytes, indexed
    FROM projects.project_contents
) AS kept USING (project_id)
WHERE (coalesce(counted.documents, 0), coalesce(counted.bytes, 0), coalesce(counted.indexed, 0))
    IS DISTINCT FROM (coalesce(kept.documents, 0), coalesce(kept.bytes, 0), coalesce(kept.indexed, 0))
"""
EXPORTED: Final = """
SELECT tenant_id, coalesce(project_id, tenant_id) AS project_id, id AS blob, attempts AS version,
       status = 'ready' AS ready
FROM projects.exports
"""
# Resumable uploads; `wrong` is one whose outcome or expiry is not there.
UPLOADS: Final = """
SELECT upload.tenant_id, upload.project_id, upload.id, upload.received, upload.document_id IS NULL AS unfinished,
    expiry.upload_id IS NULL OR (upload.document_id IS NOT NULL AND document.id IS NULL) AS wrong
FROM projects.uploads AS upload
LEFT JOIN projects.upload_expiries AS expiry
    ON expiry.tenant_id = upload.tenant_id AND expiry.upload_id = upload.id
LEFT JOIN projects.documents AS document ON document.tenant_id = upload.tenant_id AND document.id = upload.document_id
"""
HEADS: Final = "SELECT feed_id, last_sequence FROM notifier.feeds WHERE feed_id = ANY ($1::uuid[])"
TENANTS_OF_EVENTS: Final = "SELECT id, tenant_id FROM events WHERE id = ANY ($1::uuid[])"
