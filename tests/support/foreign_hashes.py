"""Password hashes made by other applications' libraries."""

PASSWORD = "the password from before"
NON_ASCII_PASSWORD = "zoës pässwörd"

# Made by the real libraries, of PASSWORD: Django 5.2.19, Werkzeug 3.1.9, Flask-Bcrypt 1.0.1 (bcrypt 5.0.0) and
# argon2-cffi 25.1.0. Devise and Laravel write bcrypt with another letter.
HASHES = {
    "django pbkdf2": "pbkdf2_sha256$1000000$BRR3z3s2hAf1PorrfCBClr$7kaJ2Y2nsM3LN/behePKq5/GhnuDUkp5S9GygGzRKmc=",
    "django pbkdf2 sha1": "pbkdf2_sha1$1000000$ix0Gx04xd8lHXMUco4VSxA$XG6Bn3dSHlQ1Bq4bFkCiscUTS5Q=",
    "django argon2": "argon2$argon2id$v=19$m=102400,t=2,p=8$emRFMmV4YWtuUDI0TEJtVjNzelJPTQ"
    "$t2AER4Sa2zPVecbENnsX1o4MkMFuzwS1VfRtGuiwUK0",
    "django bcrypt sha256": "bcrypt_sha256$$2b$12$.8qHM1nTHM3jZAXrz9iWM.56r8UQ6Akmsd9a7qPIOneo3OXdjWMSi",
    "django bcrypt": "bcrypt$$2b$12$8auZI1Wwa3p3CNx0ZJQuwuRiRzm9RdQ/AWSwNOLnbBjiWLKimGU1i",
    "django scrypt": "scrypt$16384$UC1puaECiZieKvVFBygitt$8$5$Dbm1hBEnjYrHAFAsHNT/i1ZFoCi+nidlQVqba4NntN/3vtyYsLoqne"
    "pg8E96fK735Y/kJyV56D1JgmYZDKj43w==",
    "werkzeug scrypt": "scrypt:32768:8:1$pcGJllOfFZ0fsTZ4$dfd1df139f75aa8da310c5c5d98f155fb91e6044d3d5c12306e82afb88961e"
    "9f484c3eb3898b49599241bb272f3657bedd013bb63639b1012536b90537e6d40b",
    "werkzeug pbkdf2": "pbkdf2:sha256:1000000$Dr0koL3kcefjkytP"
    "$eacadc94294710b7d158602cdee2c01bcd2f146333589604d78b388ae162bf34",
    "flask-bcrypt": "$2b$10$55WUGdiaMTvw5uos3LnPyOyWH3oBuIDsbkPwMUjbDsnywwNYVL9aa",
    "devise": "$2a$10$vIMen.RRYE4nLUkDqM9/gOqtKueStgWGwvd6j3spq1OSB8ZtqbqSi",
    "laravel": "$2y$10$55WUGdiaMTvw5uos3LnPyOyWH3oBuIDsbkPwMUjbDsnywwNYVL9aa",
    "argon2": "$argon2id$v=19$m=65536,t=3,p=4$NrTRaNbbLfGC1TZ1f/lVVg$xdSAcrxRXSE8xuNGb/xWrMaQehYzl0GIIPtFZK3J7yk",
}

# The same with the fewest rounds, for tests that only verify them.
QUICK_HASHES = {
    **HASHES,
    "django pbkdf2": "pbkdf2_sha256$1$HOolUvuvRotJMPJaogjgIo$QanOuvPljQDLcCHgik61V866QcsVoIcNPIOXbjMNft0=",
    "django pbkdf2 sha1": "pbkdf2_sha1$1$Im8jUJUUXdf7LiqanU1Asc$R17kF3eZK11c8KZG2rPSi/cwjW0=",
    "django bcrypt sha256": "bcrypt_sha256$$2b$04$TiUeAuFZ5//48p6sfPFlHOEcPwiVz5EAskuFp69uW1FctQfvW0u66",
    "django bcrypt": "bcrypt$$2b$04$LSnZz9gnJ3rvLa2WF03A0.Ff873kwEdp2alyF9XOynixucH10wi9a",
    "werkzeug pbkdf2": "pbkdf2:sha256:1$nqCs5ZADKdtRYlVA$4e7bcbd781c2ab04027c438947b262ac338051d32d931d7c639add8c43aa068b",
}

# Made by Flask-Security-Too 5.9.2 with the tests' salt: the hash and its password. Argon2 and PBKDF2 are as by
# default, the others have the fewest rounds.
FLASK_SECURITY_HASHES = {
    "argon2": (
        "$argon2id$v=19$m=65536,t=3,p=4$BOA8xxjDeI8RAiAEoPT+fw$EVyaZ8ztmyxILHuPsv7U/lVKx7czK7U+BTOc6uIFMwA",
        PASSWORD,
    ),
    "argon2 ü": (
        "$argon2id$v=19$m=65536,t=3,p=4$Y+x9L4XQeo+x9j7n3Nvb+w$4JInX16VTlt0/yY8pLcAn/ZDPAr94aV9Kygpkr8/Gro",
        NON_ASCII_PASSWORD,
    ),
    "bcrypt": ("$2b$04$NoC0ld5silGRNyIf4W1EaOlxmqPiMV8LuxhSgxb50m4yjNQobXnLi", PASSWORD),
    "pbkdf2": (
        "$pbkdf2-sha512$25000$0tq7N0YoJUQoRYhRipHSmg$jWW4XulhFY4vEO.WW8V4O.CBEplWYZL5ySOFGHRCyaqthaOwrIHMEHBVgoDsVpS1/cSqRL1v85IsnGKToEwNfw",
        NON_ASCII_PASSWORD,
    ),
    "sha512_crypt": (
        "$6$rounds=1000$wAMQVCczDO3HnbFe$lzmxr9AWuVzPwnJCn16p3IPRVIjtPmHf8DBafFwO433jOvwI9zWLDGiqjDEIeoB7XcWCsF47X6r.hV1tITD3x0",
        PASSWORD,
    ),
}
