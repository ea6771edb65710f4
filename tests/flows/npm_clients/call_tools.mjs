// Lists the tools of a server and calls one after the other with the SDK's own client, as its users write it.
//
// Reads {"url", "key", "calls": [{"name", "arguments"}]} and writes {"server", "tools", "results"} as JSON. The client
// checks each result against the schema that the server has given for it.
import { readFileSync } from "node:fs";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { url, key, calls } = JSON.parse(readFileSync(0, "utf8"));
const transport = new StreamableHTTPClientTransport(new URL(url), {
  requestInit: { headers: { Authorization: `Bearer ${key}` } },
});
const client = new Client({ name: "quarry-tests", version: "1" });
await client.connect(transport);
const { tools } = await client.listTools();
const results = [];
for (const call of calls) {
  results.push(await client.callTool(call));
}
await client.ping();
await client.close();
process.stdout.write(JSON.stringify({ server: client.getServerVersion(), tools, results }));
