"""A tutorial's Flask application: psycopg, and Werkzeug's hashes. It knows nothing of Sparekey but a link.

PGDATABASE=shop python examples/flask-psycopg/shop.py --port 8001     # with three sample users
"""

import argparse
import os

import psycopg
from flask import Flask, redirect, render_template_string, request, session
from psycopg.rows import dict_row
from werkzeug.security import check_password_hash, generate_password_hash

SPAREKEY = os.environ.get("SPAREKEY_URL", "http://127.0.0.1:5000")
TABLE = """CREATE TABLE IF NOT EXISTS users (
    id serial PRIMARY KEY,
    email varchar(254) NOT NULL UNIQUE,
    password_hash varchar(255),
    is_active boolean NOT NULL DEFAULT true
)"""
LOGIN = """<!doctype html><title>Sign in</title><form method="post">
<input name="email" type="email" required> <input name="password" type="password" required>
<button>Sign in</button></form><p>{{ problem }}</p><a href="{{ sparekey }}/reset">Forgot your password?</a>"""

app = Flask(__name__)
app.secret_key = "of an example, not of a site"


def connect():
    return psycopg.connect(row_factory=dict_row)  # where PGDATABASE, PGHOST and so on say


@app.get("/")
def home():
    return f"Hello, {session['email']}" if "email" in session else redirect("/login")


@app.route("/login", methods=["GET", "POST"])
def login():
    problem = ""
    if request.method == "POST":
        with connect() as connection:
            query = "SELECT * FROM users WHERE email = %s AND is_active"
            user = connection.execute(query, [request.form["email"]]).fetchone()
        if user and check_password_hash(user["password_hash"] or "", request.form["password"]):
            session["email"] = user["email"]
            return redirect("/")
        problem = "Wrong address or password."
    return render_template_string(LOGIN, problem=problem, sparekey=SPAREKEY)


def set_up():
    people = [
        ("alice@example.com", generate_password_hash("alice will forget this"), True),
        ("bob@example.com", generate_password_hash("bob has left the shop"), False),
        ("carol@example.com", None, True),  # without a password
    ]
    with connect() as connection:
        connection.execute(TABLE)
        insert = """INSERT INTO users (email, password_hash, is_active) VALUES (%s, %s, %s)
                    ON CONFLICT DO NOTHING"""
        connection.cursor().executemany(insert, people)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    set_up()
    app.run(port=parser.parse_args().port)
