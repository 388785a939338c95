"""The steps of `RedisStore`: scripts, each of which the server runs as a whole on one key."""

from __future__ import annotations

from typing import Final

__all__ = ["ABANDON", "BEGIN", "DELETE", "HOLDER", "KEEP", "KEPT", "RENEW", "SET_ASIDE", "UNSEEN"]

# One hash a key, so that a cluster keeps all of it in one place. The server's clock counts. The fence outlives the
# lease and the record.

#: Answers of KEEP: the record is kept; or it is not, because the stored one is not the one that the caller has seen.
KEPT: Final = 1
UNSEEN: Final = 2

# A stranger may have written something else where a number belongs. It counts as zero: the lease is begun anew, and
# its owner tells it from others.
_NUMBER: Final = """
local function number(text)
    local n = tonumber(text)
    if n and n >= 0 and n < 2^53 - 1 then return math.floor(n) end
    return 0
end
"""

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

# ARGV: owner, ttl, the longest lease, expire (all in ms).
BEGIN: Final = (
    _NUMBER
    + _NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'owner', 'ends', 'record', 'fence')
local ends = number(found[2])
if ends > now and ends <= now + ARGV[3] and found[1] ~= ARGV[1] then return {0, ends - now, found[3]} end
local fence = number(found[4]) + 1
redis.call('HSET', KEYS[1], 'fence', string.format('%.0f', fence), 'owner', ARGV[1],
    'ends', string.format('%.0f', now + ARGV[2]))
if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', KEYS[1], math.max(ARGV[4], ARGV[2])) end
return {1, fence, found[3]}
"""
)

# ARGV: fence, owner, version, record, key, channel, expire, SHA-1 of the record that the caller has seen, whether the
# lease ends, whether it is a sign-out. The notice is sent last, so that a user without rights to the channel keeps its
# record.
KEEP: Final = (
    _NUMBER
    + """
local found = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'version', 'record')
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then return {0, 0} end
if redis.sha1hex(found[4] or '') ~= ARGV[8] then return {2, found[4]} end
if number(found[3]) >= tonumber(ARGV[3]) then return {0, 0} end
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'record', ARGV[4], 'key', ARGV[5])
if ARGV[9] == '1' then redis.call('HSET', KEYS[1], 'ends', '0') end
if ARGV[10] == '1' then redis.call('HDEL', KEYS[1], 'torn') end
if tonumber(ARGV[7]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[7]) end
local told = redis.pcall('PUBLISH', ARGV[6], ARGV[5])
return {1, type(told) == 'number' and 1 or 0}
"""
)

_MINE: Final = """
local lease = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'ends')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return 0 end
"""

# ARGV: fence, owner, ttl, expire.
RENEW: Final = (
    _NUMBER
    + _NOW
    + _MINE
    + """
if number(lease[3]) <= now then return 0 end
redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + ARGV[3]))
if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', KEYS[1], math.max(ARGV[4], ARGV[3])) end
return 1
"""
)

# ARGV: fence, owner.
ABANDON: Final = _MINE + "redis.call('HSET', KEYS[1], 'ends', '0') return 1"

# ARGV: the longest lease.
HOLDER: Final = (
    _NUMBER
    + _NOW
    + """
local lease = redis.call('HMGET', KEYS[1], 'owner', 'ends')
local left = number(lease[2]) - now
if left <= 0 or left > tonumber(ARGV[1]) then return false end
return {lease[1] or '', left}
"""
)

# A value of another type goes as a whole.
DELETE: Final = """
local gone = redis.pcall('HDEL', KEYS[1], 'record', 'version', 'key', 'torn')
if type(gone) ~= 'number' then return redis.call('DEL', KEYS[1]) end
return gone
"""

# ARGV: the damaged record.
SET_ASIDE: Final = """
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'torn', ARGV[1])
return redis.call('HDEL', KEYS[1], 'record', 'version', 'key')
"""
