// A Node.js application without a framework: pg and bcryptjs. It knows nothing of Sparekey but a link.
//
// PGDATABASE=shop node examples/node/shop.js 8001     # with three sample users

const { randomUUID } = require("node:crypto");
const http = require("node:http");
const bcrypt = require("bcryptjs");
const { Pool } = require("pg");

const SPAREKEY = process.env.SPAREKEY_URL ?? "http://127.0.0.1:5000";
const TABLE = `CREATE TABLE IF NOT EXISTS users (
  id uuid PRIMARY KEY,
  email text NOT NULL UNIQUE,
  password text,
  disabled boolean NOT NULL DEFAULT false
)`;
const LOGIN = `<!doctype html><title>Sign in</title><form method="post">
<input name="email" type="email" required> <input name="password" type="password" required>
<button>Sign in</button></form><a href="${SPAREKEY}/reset">Forgot your password?</a>`;

const pool = new Pool(); // where PGDATABASE, PGHOST and so on say
const sessions = new Map();

async function setUp() {
  await pool.query(TABLE);
  const people = [
    ["alice@example.com", await bcrypt.hash("alice will forget this", 10), false],
    ["bob@example.com", await bcrypt.hash("bob has left the shop", 10), true],
    ["carol@example.com", null, false], // without a password
  ];
  for (const person of people) {
    await pool.query("INSERT INTO users VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", [randomUUID(), ...person]);
  }
}

async function signIn(request, response) {
  let body = "";
  for await (const part of request) body += part;
  const { email, password } = Object.fromEntries(new URLSearchParams(body));
  const { rows } = await pool.query("SELECT * FROM users WHERE email = $1 AND NOT disabled", [email]);
  if (!rows[0]?.password || !(await bcrypt.compare(password, rows[0].password))) {
    return response.writeHead(400, { "Content-Type": "text/html" }).end(`<p>Wrong.</p>${LOGIN}`);
  }
  const id = randomUUID();
  sessions.set(id, email);
  return response.writeHead(302, { Location: "/", "Set-Cookie": `session=${id}; HttpOnly; SameSite=Lax` }).end();
}

async function answer(request, response) {
  const email = sessions.get(request.headers.cookie?.match(/session=([\w-]+)/)?.[1]);
  if (request.url === "/login" && request.method === "POST") return signIn(request, response);
  if (request.url === "/login") return response.writeHead(200, { "Content-Type": "text/html" }).end(LOGIN);
  if (email) return response.end(`Hello, ${email}`);
  return response.writeHead(302, { Location: "/login" }).end();
}

setUp().then(() => {
  http
    .createServer((request, response) => answer(request, response).catch((error) => response.writeHead(500).end(String(error))))
    .listen(Number(process.argv[2] ?? 8001), "127.0.0.1");
});
