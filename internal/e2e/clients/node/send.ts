// Sends with the types that openapi-typescript makes and openapi-fetch uses, and
// says what it reads of the answers.
import createClient from "openapi-fetch";
import type { components, paths } from "./sluice.js";

declare const process: { env: Record<string, string> };

function client(key: string) {
  return createClient<paths>({ baseUrl: process.env.SLUICE_URL!, headers: { Authorization: `Bearer ${key}` } });
}

const good: components["schemas"]["Event"] = { id: "typescript-1", name: "order_placed", user_id: "u1", data: { total: 12.5 } };
const bad: components["schemas"]["Event"] = { name: "é".repeat(400) };

const { POST } = client(process.env.SLUICE_KEY!);
const all = await POST("/v1/events", { body: good });
if (!all.data) throw all.error;
console.log("all", all.data.accepted, all.data.rejected, all.data.ids[0], all.data.ack);

const some = await POST("/v1/events", { body: { events: [{ id: "typescript-2", name: "order_shipped" }, bad] } });
if (!some.data) throw some.error;
const error = some.data.errors![0]!;
console.log("some", some.data.accepted, some.data.rejected, some.data.ids[0], some.data.ids[1], error.index, error.pointer, error.code);

const none = await client("wk_wrong").POST("/v1/events", { body: [good] });
if (!none.error) throw new Error("a wrong key was taken");
const code: components["schemas"]["ProblemCode"] = none.error.code;
console.log("none", none.response.status, none.error.status, code, none.error.title);
