-- Judges a part of a request by buckets that several gateways share, at once.
--
-- A bucket is a string: the microsecond of this server's clock at which it will
-- be full. One that is full has no key.
--
-- KEYS  the buckets, those of gates first; all of one hash slot
-- ARGV  1     how many gates there are
--       2..4  users: what one event takes to grow back and what the burst
--             takes, in microseconds; 1 if who is over is refused, 0 if not
--       5..7  the same of event names
--       8     the events, four bytes each: the indexes in KEYS of their user
--             and their name, the high byte first; 0 is none
--       9...  of each gate: what must be there, what is taken, and what the
--             burst takes, in microseconds; 1 if it refuses, 0 if not
--
-- Answers which gates lack what must be there (the sum of 2^(gate-1)); a
-- character for each event (1 its user lacks it, 2 its name, 3 both, 0 neither),
-- none if a gate refuses; and for each bucket in how many microseconds it will
-- be full. What is refused takes nothing.
--
-- TIME before a write wants replication by effects, which every Redis has by
-- default since 5 and every Valkey. There are no other demands: no libraries,
-- no flags, keys of one slot.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local most = 315360000000000 -- ten years: doubles count further
local rounding = 0.5 -- at this size they have steps of a quarter
local known = redis.call('MGET', unpack(KEYS))
local ahead, changed = {}, {}
for i = 1, #KEYS do
  ahead[i] = math.max((tonumber(known[i] or 0) or 0) - now, 0)
end

local function take(i, cost)
  ahead[i] = math.min(ahead[i] + cost, most)
  changed[i] = true
end

local gates, lacking, refused = tonumber(ARGV[1]), 0, false
local lacks = {}
for i = 1, gates do
  local a = 4 + 4 * i
  lacks[i] = ahead[i] + tonumber(ARGV[a + 1]) - tonumber(ARGV[a + 3]) > rounding
  if lacks[i] then
    lacking = lacking + 2 ^ (i - 1)
    refused = refused or ARGV[a + 4] == '1'
  end
end

local verdicts = {}
if not refused then
  for i = 1, gates do
    if not lacks[i] then
      take(i, tonumber(ARGV[4 + 4 * i + 2]))
    end
  end
  local user, user_burst, user_refuses = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
  local name, name_burst, name_refuses = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
  local events = ARGV[8]
  for at = 1, #events, 4 do
    local a, b, c, d = string.byte(events, at, at + 3)
    local u, n = a * 256 + b, c * 256 + d
    local user_lacks = u > 0 and ahead[u] + user - user_burst > rounding
    local name_lacks = n > 0 and ahead[n] + name - name_burst > rounding
    if not (user_lacks and user_refuses) and not (name_lacks and name_refuses) then
      if u > 0 and not user_lacks then take(u, user) end
      if n > 0 and not name_lacks then take(n, name) end
    end
    verdicts[#verdicts + 1] = user_lacks and (name_lacks and '3' or '1') or (name_lacks and '2' or '0')
  end
end

local answer = {lacking, table.concat(verdicts)}
for i = 1, #KEYS do
  if changed[i] then
    redis.call('SET', KEYS[i], string.format('%.2f', now + ahead[i]), 'PX', string.format('%.0f', math.ceil(ahead[i] / 1000)))
  end
  answer[#answer + 1] = math.ceil(ahead[i])
end
return answer
