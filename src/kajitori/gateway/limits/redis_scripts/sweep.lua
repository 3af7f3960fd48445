-- KEYS: open, names. ARGV: prefix, now, late seconds. Answers how many reservations were over their time.
redis.call('ZREMRANGEBYSCORE', names_key, '-inf', ARGV[2])
return give_back(100, tonumber(ARGV[3]))
