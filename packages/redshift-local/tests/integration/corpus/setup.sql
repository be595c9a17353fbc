create table sales (salesid int, eventid int, sellerid int, qtysold int, pricepaid decimal(8,2), saletime timestamp);
insert into sales values
 (1, 10, 100, 1, 20.00, '2008-01-01 10:00:00'), (2, 10, 101, 2, 76.00, '2008-01-02 11:00:00'),
 (3, 11, 100, 3, 350.00, '2008-02-01 09:30:00'), (4, 11, 102, 1, null, '2008-02-03 09:30:00'),
 (5, 12, 101, 4, 120.50, '2008-03-01 00:00:00');
create table event (eventid int, eventname varchar(30), starttime timestamp);
insert into event values (10, 'Hamlet', '2008-03-01 19:30:00'), (11, 'Macbeth', '2008-04-01 20:00:00'),
 (12, 'Tosca', null), (13, 'Othello', '2008-05-01 20:00:00');
create table winsales (salesid int, dateid date, sellerid int, buyerid char(10), qty int, qty_shipped int);
insert into winsales values
 (30001, '2003-08-02', 3, 'B', 10, 10), (10001, '2003-12-24', 1, 'C', 10, 10), (10005, '2003-12-24', 1, 'A', 30, null),
 (40001, '2004-01-09', 4, 'A', 40, null), (10006, '2004-01-18', 1, 'C', 10, null), (20001, '2004-02-12', 2, 'B', 20, 20),
 (40005, '2004-02-12', 4, 'A', 10, 10), (20002, '2004-02-16', 2, 'C', 20, 20), (30003, '2004-04-18', 3, 'B', 15, null),
 (30004, '2004-04-18', 3, 'B', 20, null), (30007, '2004-09-07', 3, 'C', 30, null);
