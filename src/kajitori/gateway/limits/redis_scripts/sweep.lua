-- KEYS: open. ARGV: prefix, now, late seconds. Answers how many reservations were over their time.
return give_back(100, tonumber(ARGV[3]))
