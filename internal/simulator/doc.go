// Package simulator is vendors on this machine: small servers that take what the
// real ones take, refuse what they refuse in the same words and shapes, keep to
// their limits, and have their quirks. People try the product with them without
// an account, and tests prove connectors against them.
//
// The package imports nothing of this module. It is written from what the
// vendors document, and not from what the connectors send; a connector that
// misunderstands its vendor is to fail here. Bodies are held against the JSON
// Schemas in the folder schemas, and by code against what a schema cannot say:
// bytes, times, headers, limits.
//
// What is simulated, of the documentation as it was read in 2026-11:
//
//   - mixpanel: POST /import (strict or not, JSON array or NDJSON, gzip), POST
//     /engage and POST /groups (strict, verbose or neither). Source: mixpanel/docs,
//     Import Events, Identifying users, and openapi/ingestion.openapi.yaml. Where
//     page and file differ, the stricter holds: 2,097,152 bytes and not 10 MB; a
//     batch has one event at least, so that an empty one is answered with 400. They
//     spell the id of a failed record differently, and so does the simulator, in
//     turns. Not: /track, sampling of queries, Original ID Merge, geolocation.
//   - hubspot: completions of custom events, alone and in batches; batch upsert of
//     contacts; account details; the list of properties of contacts; limits of
//     the professional tier; 423 and 477 (see Trouble.Status). A uuid that is
//     known is taken without a word, and counts as a duplicate. Source: HubSpot,
//     Send event completions, Contacts, Error handling, Usage guidelines. Not:
//     everything else of the CRM, types of properties, OAuth.
//   - ga4: POST /mp/collect, which says 204 to anything, and POST
//     /debug/mp/collect. What Google would not show in any report is in Dropped:
//     whole events, though Google keeps some of those that are only too long. Source:
//     Google, Measurement Protocol reference, sending and validating events; limits
//     and reserved names of support articles 9267744 and 13316687. Not:
//     validation_behavior, sessions, processing.
//   - gtm: a tagging server whose container has the client for the Measurement
//     Protocol at /mp/collect and the Data Client of Stape at /data. What no client
//     claims is answered with 400. Not: /g/collect, tags, preview.
//   - mailchimp: ping, one audience, members by PUT, events and tags of members,
//     POST /lists/{id}, and batch operations, which are carried out at once and
//     have no archive of results. Ten calls at once. Source: Mailchimp, Marketing
//     API reference, fundamentals and errors. Not: everything else; e-mail is never
//     sent. The addresses that Mailchimp takes for fake are taken.
//   - webhook: a receiver that verifies Standard Webhooks signatures (scheme v1)
//     and takes each webhook-id once. Source: the specification. Not: v1a.
//   - amplitude: POST /2/httpapi and POST /batch. Source: Amplitude, HTTP V2 API,
//     Batch Event Upload API. Not: silenced devices, daily quotas, limits of plans.
//   - clickhouse: the HTTP interface of a server of version 26.5 with one user and
//     the database "default": INSERT … FORMAT TabSeparated, CREATE TABLE of the family
//     MergeTree, and what a client asks system and CHECK GRANT before it begins.
//     Rows are read by the types of their columns, all or none; an insertion whose
//     token the table knows is ignored; and of a table that replaces, Received has one
//     row of each name and id, the first, as FINAL shows the last. Source: ClickHouse,
//     HTTP Interface, TabSeparated, Deduplicating inserts on retries, and the words of
//     its engine. Not: reading, partitions, grants, constraints, async_insert but for
//     what it does to tokens, settings, which are taken unseen.
//   - slack: one incoming webhook. Source: Slack, Incoming webhooks, Rate limits,
//     Block Kit. Not: most kinds of blocks are only counted.
//
// Each vendor accepts one set of credentials, which Vendor.Settings names. None
// is a secret of anybody. What a vendor keeps is bounded, so that it may run for
// days; after a restart it knows nothing of before.
package simulator
